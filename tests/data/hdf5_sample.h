// SPDX-License-Identifier: Apache-2.0
// Corpora written straight through the HDF5 library, so that tests choose storage, types and defects that
// `farsight data text` never produces.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace farsight {

enum class SampleStorage : uint8_t {
  contiguous,
  big_endian,  // contiguous, elements in the other byte order
  wide,        // contiguous int64
  chunks,      // without a filter
  deflate,     // chunks with shuffle and deflate
  fletcher,    // chunks with a checksum
  compact,     // inside the object header
  floats,
  two_dimensional,
  external,  // elements in another file
  soft_link  // the dataset is reached by a soft link
};

struct CorpusSample {
  std::vector<int32_t> tokens;
  std::optional<std::vector<int64_t>> doc_offsets = {};
  std::optional<std::vector<uint8_t>> loss_mask = {};
  SampleStorage storage = SampleStorage::contiguous;
  int64_t vocab_size = 259;
  int64_t version = 1;
  std::string format = "farsight-data";  // empty: no such attribute
  std::string kind = "tokens";
  std::string split = "train";
  std::string fingerprint = "13beb2915ade65b5";  // of the byte tokeniser
};

inline constexpr int64_t kSampleChunk = 100;

void write_sample(const std::string& path, const CorpusSample& sample);

}  // namespace farsight
