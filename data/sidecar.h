// SPDX-License-Identifier: Apache-2.0
// Checksums of a data file, kept beside it as FILE.sum (corpus_format.md). They cover every byte, the metadata
// included.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace farsight {

inline constexpr int64_t kSidecarBlock = int64_t{64} << 20;

struct Sidecar {
  std::string uuid;
  int64_t bytes = 0;
  uint64_t xxh3 = 0;             // XXH3-64, seed 0, of the whole file
  std::vector<uint32_t> crc32c;  // of each block of 64 MiB
};

std::string sidecar_path(const std::string& path);
// Reads the whole file once.
Sidecar compute_sidecar(const std::string& path, const std::string& uuid);
std::string to_text(const Sidecar& sidecar);
// Error{data} "F.h5.sum:LINE: ..." for anything but what to_text writes.
Sidecar parse_sidecar(const std::string& text, const std::string& name);
Sidecar load_sidecar(const std::string& path);
// Compares every byte of `path` with its sidecar. Error{data}: no sidecar, a stale one (another uuid or size), or the
// first blocks that differ, as byte ranges.
void verify_sidecar(const std::string& path, const std::string& uuid);

}  // namespace farsight
