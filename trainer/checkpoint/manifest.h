// SPDX-License-Identifier: Apache-2.0
// MANIFEST: the one file that makes a directory a checkpoint. A JSON object, a newline, and a last line
// "crc32c=XXXXXXXX" over everything above it. It holds the state of training, the list of shard files with their
// checksums, and the index of every tensor. See checkpoint_format.md.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "kernels/tensor.h"

namespace farsight {

struct DatasetIdentity {
  std::string path;
  int64_t bytes = 0;
  int64_t modified_ns = 0;
  int64_t rows = 0;
  std::string checksum;  // sampled checksum, hex
};

// Everything but tensors. Non-finite statistics are kept as they are.
struct CheckpointState {
  int64_t step = 0;
  int64_t tokens = 0;  // seen so far
  int64_t epoch = 0;
  int64_t samples_consumed = 0;  // the global sample cursor: the whole position in the data
  uint64_t seed = 0;
  uint64_t shuffle_seed = 0;
  std::string config_text;  // effective configuration, TOML
  std::string config_hash;
  std::string code_version;
  std::string tokenizer_fingerprint;
  std::vector<DatasetIdentity> datasets;
  std::map<std::string, double> learning_rate;               // schedule state
  std::map<std::string, double> loss_scale;                  // empty without loss scaling
  std::map<std::string, double> loss_statistics;             // running statistics of the guards
  std::vector<double> recent_losses;                         // window of the spike guard, oldest first
  std::vector<std::pair<int64_t, int64_t>> skipped_windows;  // global samples [a, b) never drawn again
  std::map<std::string, double> wall_times;                  // seconds, by name
  int64_t world = 1;
  std::map<std::string, int64_t> mesh;  // axis -> extent
};

struct ShardFile {
  std::string name;  // shard-00000-of-00008.fss
  int64_t bytes = 0;
  uint32_t crc_header = 0;
  uint32_t crc_table = 0;
};

// A stored hyper-rectangle; begin is where it starts in the data part of its file.
struct IndexPiece {
  int64_t file = 0;  // position in files
  int64_t begin = 0;
  Shape offset, shape;
};

struct IndexEntry {
  std::string dtype;  // a name of the format, e.g. "f32"
  Shape global;
  std::vector<IndexPiece> pieces;
};

struct Manifest {
  static constexpr int64_t kFormat = 1;
  int64_t format = kFormat;
  std::string uuid;
  CheckpointState state;
  std::vector<ShardFile> files;
  std::map<std::string, IndexEntry> index;
};

// The file's text, crc line included.
std::string encode_manifest(const Manifest& manifest);
// Error{data} "PATH: MANIFEST ..." for anything not exactly as described: checksum, key, type, range, format.
Manifest decode_manifest(const std::string& text, const std::string& path);

}  // namespace farsight
