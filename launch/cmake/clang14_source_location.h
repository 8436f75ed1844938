// SPDX-License-Identifier: Apache-2.0
// For launch/lint tidy only: clang 14 lacks the builtin behind libstdc++ 12's std::source_location, whose header then
// declares nothing. g++ and later clangs never read this file.
#pragma once

#include <cstdint>

namespace std {
struct source_location {
  static constexpr source_location current(const char* file = __builtin_FILE(),
                                           const char* function = __builtin_FUNCTION(), int line = __builtin_LINE()) {
    source_location here;
    here.file_ = file;
    here.function_ = function;
    here.line_ = static_cast<uint_least32_t>(line);
    return here;
  }
  constexpr uint_least32_t line() const { return line_; }
  constexpr uint_least32_t column() const { return 0; }
  constexpr const char* file_name() const { return file_; }
  constexpr const char* function_name() const { return function_; }

 private:
  const char* file_ = "";
  const char* function_ = "";
  uint_least32_t line_ = 0;
};
}  // namespace std
