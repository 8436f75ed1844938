// SPDX-License-Identifier: Apache-2.0
// What is not text in UTF-8, told by its first bytes or by a NUL byte.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace farsight {

// How many bytes of a file are needed to tell.
inline constexpr size_t kLongestMark = 4;
inline constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

// Error{data} naming compression or encoding and what to run, for the beginning of a file in gzip, zstd, UTF-16,
// UTF-32.
void refuse_foreign_text(const std::string& name, std::string_view beginning);

// Error{data} if there is a NUL byte in `piece`, which begins at byte `offset`; `advice` is appended to the message.
void refuse_nul(const std::string& name, std::string_view piece, int64_t offset, std::string_view advice);

}  // namespace farsight
