#include "stream.hpp"

#include <cerrno>
#include <cstring>

#include "errors.hpp"

namespace muzero_rc {
namespace {

void put(std::string& out, uint64_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) out.push_back(static_cast<char>((value >> (8 * i)) & 0xff));
}

}  // namespace

Stream::Stream(const Settings& settings, const std::string& path)
    : settings_(settings), path_(path) {
  if (!path_.empty()) {
    file_ = std::fopen(path_.c_str(), "wb");
    if (!file_) throw WriteError("cannot write " + path_ + ": " + std::strerror(errno), errno);
  }
  const std::string text = header();
  write(text.data(), text.size());
}

Stream::~Stream() {
  if (file_) std::fclose(file_);
}

// IVF: 32 bytes, little endian; time stamps count frames.
std::string Stream::header() const {
  std::string out = "DKIF";
  put(out, 0, 2);
  put(out, 32, 2);
  out += "VP90";
  put(out, settings_.width, 2);
  put(out, settings_.height, 2);
  put(out, settings_.fps_num, 4);
  put(out, settings_.fps_den, 4);
  put(out, packets_, 4);
  put(out, 0, 4);
  return out;
}

void Stream::write(const void* data, size_t size) {
  if (!file_) {
    memory_.append(static_cast<const char*>(data), size);
  } else if (std::fwrite(data, 1, size, file_) != size) {
    throw WriteError("cannot write " + path_ + ": " + std::strerror(errno), errno);
  }
}

void Stream::add(const Packet& packet) {
  std::string head;
  put(head, packet.data.size(), 4);
  put(head, static_cast<uint64_t>(packet.pts), 8);
  write(head.data(), head.size());
  write(packet.data.data(), packet.data.size());
  ++packets_;
  bytes_ += static_cast<int64_t>(packet.data.size());
}

void Stream::finish() {
  const std::string text = header();
  if (!file_) {
    memory_.replace(0, text.size(), text);
    return;
  }
  const bool sought = std::fseek(file_, 0, SEEK_SET) == 0;
  const bool written = sought && std::fwrite(text.data(), 1, text.size(), file_) == text.size();
  const int saved = errno;
  const bool closed = std::fclose(file_) == 0;
  file_ = nullptr;
  if (!written || !closed) {
    const int why = written ? errno : saved;
    throw WriteError("cannot write " + path_ + ": " + std::strerror(why), why);
  }
}

}  // namespace muzero_rc
