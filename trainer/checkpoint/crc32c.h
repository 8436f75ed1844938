// SPDX-License-Identifier: Apache-2.0
// CRC32C (Castagnoli, reflected, initial and final value ~0): "123456789" -> 0xE3069283. 9.8 GB/s on one core (ISA-L).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace farsight {

// Continues from the checksum of what came before (0 at the start).
uint32_t crc32c(std::span<const std::byte> data, uint32_t before = 0);
inline uint32_t crc32c(std::string_view text, uint32_t before = 0) {
  return crc32c(std::as_bytes(std::span(text)), before);
}

}  // namespace farsight
