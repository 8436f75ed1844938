// SPDX-License-Identifier: Apache-2.0
// Bytes of an input file, plain or decompressed while they are read (.gz, .zst by name).
#pragma once

#include <cstdint>
#include <memory>
#include <string>

namespace farsight {

class TextSource {
 public:
  virtual ~TextSource() = default;
  // Up to `bytes` of the text; 0 at the end. Error{data} for a damaged compressed stream, Error{io} for a read error.
  virtual size_t read(char* out, size_t bytes) = 0;
  virtual int64_t consumed() const = 0;  // bytes of the file itself that were read: progress
  virtual std::string sha256() = 0;      // of the file itself; call at the end
};

// With `hash` off sha256() is empty: for a pass that only counts.
std::unique_ptr<TextSource> open_text_source(const std::string& path, bool hash);

}  // namespace farsight
