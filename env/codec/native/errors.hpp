// Errors that cross from the encoder to Python, one class per Python exception.
#pragma once

#include <stdexcept>
#include <string>

namespace muzero_rc {

// libvpx refused or failed; code is its vpx_codec_err_t, 0 if the error is not libvpx's.
class CodecError : public std::runtime_error {
 public:
  CodecError(const std::string& what, int code, std::string detail)
      : std::runtime_error(what), code(code), detail(std::move(detail)) {}
  int code;
  std::string detail;
};

// The encoder did not answer within the watchdog time.
class TimeoutError : public CodecError {
 public:
  explicit TimeoutError(const std::string& what) : CodecError(what, 0, "") {}
};

// The session is closed, or a call came out of turn.
class ClosedError : public CodecError {
 public:
  explicit ClosedError(const std::string& what) : CodecError(what, 0, "") {}
};

// What was given cannot be used, e.g. raw frames that end in the middle of one.
class InputError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// The encoded stream cannot be written; errno_value says why.
class WriteError : public std::runtime_error {
 public:
  WriteError(const std::string& what, int errno_value)
      : std::runtime_error(what), errno_value(errno_value) {}
  int errno_value;
};

}  // namespace muzero_rc
