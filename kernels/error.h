// SPDX-License-Identifier: Apache-2.0
// The one exception type of the program. Library code throws it; only main() turns it into a message and an exit code.
// A message says what is wrong, where (file:line:column, dataset path, rank), and what to do.
#pragma once

#include <stdexcept>
#include <string>
#include <utility>

#include <fmt/format.h>

namespace farsight {

// Why an operation ended. The documented exit codes are derived from this (exit_code).
enum class ErrorKind {
  usage,        // 64: wrong command line
  data,         // 65: missing, malformed, mismatched or damaged input
  environment,  // 69: MPI, device, library or permission unavailable; run directory in use
  internal,     // 70: a bug: broken invariant, wrong shape between our own functions
  io,           // 74: no space, read or write error
  diverged,     // 76: non-finite loss, or replicas differ
  config,       // 78: configuration, including unsupported combinations
  stopped,      // 85: stopped on request with a checkpoint saved
  watchdog,     // 124: a rank made no progress
  terminated    // 143: terminated without time to save
};

// Exit code of interface.md for each kind.
int exit_code(ErrorKind kind);

class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& message) : std::runtime_error(message), kind_(kind) {}
  ErrorKind kind() const { return kind_; }

 private:
  ErrorKind kind_;
};

// Throws Error{kind, formatted message}.
template <typename... Args>
[[noreturn]] void fail(ErrorKind kind, fmt::format_string<Args...> format, Args&&... args) {
  throw Error(kind, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace farsight
