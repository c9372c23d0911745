// The coded packets of a session, kept in memory or written to an IVF file as they come.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "encoder.hpp"

namespace muzero_rc {

class Stream {
 public:
  // An empty path keeps the packets in memory. Throws WriteError.
  Stream(const Settings& settings, const std::string& path);
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  void add(const Packet& packet);
  // Completes the file's header; nothing may be added afterwards.
  void finish();

  int64_t packets() const { return packets_; }
  int64_t bytes() const { return bytes_; }
  // The IVF file's content, if kept in memory.
  const std::string& ivf() const { return memory_; }

 private:
  void write(const void* data, size_t size);
  std::string header() const;

  Settings settings_;
  std::string path_;
  std::FILE* file_ = nullptr;
  std::string memory_;
  int64_t packets_ = 0;
  int64_t bytes_ = 0;
};

}  // namespace muzero_rc
