// SPDX-License-Identifier: Apache-2.0
// The ways in which large collectives travel between threads, and what is thrown there, for the tests of the
// communicator.
#pragma once

#include <exception>
#include <functional>
#include <limits>
#include <string>

#include "parallel/comm.h"
#include "tests/sanitized.h"

namespace farsight::testing {

enum class Path { direct, windows, small_windows, messages };
inline constexpr Path kPaths[] = {Path::direct, Path::windows, Path::small_windows, Path::messages};

inline CommOptions options_of(Path path) {
  CommOptions options;
  options.direct = path == Path::direct;
  if (path != Path::direct) options.shared_bytes = 1;  // the smallest too
  if (path == Path::small_windows) options.window_bytes = kSanitized ? 16384 : 4096;
  if (path == Path::messages) options.shared_bytes = std::numeric_limits<int64_t>::max();
  return options;
}

inline std::string name_of(Path path) {
  switch (path) {
    case Path::direct:
      return "Direct";
    case Path::windows:
      return "Windows";
    case Path::small_windows:
      return "SmallWindows";
    case Path::messages:
      return "Messages";
  }
  return "";
}
// The message of what body() throws.
inline std::string error_of(const std::function<void()>& body) {
  try {
    body();
  } catch (const std::exception& e) {
    return e.what();
  }
  return "(no error)";
}
}  // namespace farsight::testing
