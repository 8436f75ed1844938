// SPDX-License-Identifier: Apache-2.0
// What every data file says about itself, whatever it holds, and where its arrays lie: the part of a descriptor that
// corpora (corpus.h) and time series (series.h) share.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace farsight {

struct DataFileInfo {
  std::string file;
  int64_t file_bytes = 0;
  std::string uuid;
  std::string licence;
  std::vector<std::string> source_names;
  std::string normalised;
  bool sidecar = false;  // FILE.sum is present and names this uuid and size
  bool operator==(const DataFileInfo&) const = default;
};

// Where the elements of an array lie in the file.
enum class Storage : uint8_t {
  contiguous,  // little-endian at `offset`: mapped or read without libhdf5
  chunked,     // little-endian unfiltered chunks at `chunk_offsets`: read without libhdf5
  library      // filtered, compact, other byte order or width: decoded by libhdf5
};

struct ArrayDescriptor {
  std::string path;   // "/train/tokens"
  int32_t width = 0;  // bytes of an element
  bool is_signed = false;
  bool is_float = false;
  int64_t columns = 0;  // of a two-dimensional array; 0: one-dimensional
  int64_t size = 0;     // elements, row after row
  Storage storage = Storage::contiguous;
  int64_t offset = -1;                 // contiguous: file offset of element 0
  int64_t chunk = 0;                   // chunked and library: elements of a chunk, whole rows (0: not chunked)
  std::vector<int64_t> chunk_offsets;  // chunked: file offset of every chunk
  std::string head;                    // first bytes (at most 64): proves that another node sees the same file
  std::optional<uint64_t> content_xxh3;
};

// automatic: map contiguous arrays of local file systems, pread on network file systems.
enum class DataIo : uint8_t { automatic, map, pread };

// Limits of the child process that parses untrusted metadata.
struct ProbeLimits {
  int64_t memory_bytes = int64_t{1} << 30;  // beyond what the parent has mapped
  int cpu_s = 60;
  int wall_s = 120;
};

}  // namespace farsight
