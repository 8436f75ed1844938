// SPDX-License-Identifier: Apache-2.0
#include "data/text_encoding.h"

#include <cstring>

#include "data/file.h"
#include "kernels/error.h"

namespace farsight {

void refuse_foreign_text(const std::string& name, std::string_view beginning) {
  const auto refuse = [&name](const char* what, const std::string& advice) {
    fail(ErrorKind::data, "{}: {}; {}", name, what, advice);
  };
  if (beginning.starts_with("\x1F\x8B")) refuse("gzip data", fmt::format("rename it to {}.gz", name));
  if (beginning.starts_with("\x28\xB5\x2F\xFD")) refuse("zstd data", fmt::format("rename it to {}.zst", name));
  const bool little = beginning.starts_with("\xFF\xFE"), big = beginning.starts_with("\xFE\xFF");
  if (!little && !big) return;
  const bool wide = little && beginning.size() >= kLongestMark && beginning[2] == '\0' && beginning[3] == '\0';
  refuse(wide     ? "UTF-32 text"
         : little ? "UTF-16 little-endian text"
                  : "UTF-16 big-endian text",
         fmt::format("convert it: iconv -f {} -t UTF-8 {} > {}.utf8", wide ? "UTF-32" : "UTF-16", name, name));
}

void refuse_nul(const std::string& name, std::string_view piece, int64_t offset, std::string_view advice) {
  const auto* found = static_cast<const char*>(std::memchr(piece.data(), '\0', piece.size()));
  if (found == nullptr) return;
  fail(ErrorKind::data,
       "{}: byte {}: NUL byte: binary data, or UTF-16 without a mark (then convert it: iconv -f UTF-16LE -t UTF-8){}",
       name, with_commas(offset + (found - piece.data())), advice);
}

}  // namespace farsight
