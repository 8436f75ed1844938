// SPDX-License-Identifier: Apache-2.0
#include "trainer/checkpoint/crc32c.h"

#include <algorithm>

#include <isa-l/crc.h>

namespace farsight {

uint32_t crc32c(std::span<const std::byte> data, uint32_t before) {
  constexpr size_t kPiece = size_t{1} << 30;  // the library counts bytes in an int
  uint32_t crc = ~before;
  while (!data.empty()) {
    const size_t bytes = std::min(data.size(), kPiece);
    // The library reads only; its signature has no const.
    auto* bytes_begin = reinterpret_cast<unsigned char*>(const_cast<std::byte*>(data.data()));
    crc = crc32_iscsi(bytes_begin, static_cast<int>(bytes), crc);
    data = data.subspan(bytes);
  }
  return ~crc;
}

}  // namespace farsight
