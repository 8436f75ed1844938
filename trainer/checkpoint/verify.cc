// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "kernels/error.h"
#include "trainer/checkpoint/checkpoint_directory.h"
#include "trainer/checkpoint/load.h"
#include "trainer/checkpoint/load_plan.h"

namespace farsight {
namespace {

constexpr int64_t kWindowBytes = 16 << 20;

bool same_piece(const IndexPiece& piece, const ShardTensor& tensor, int64_t file) {
  return piece.file == file && piece.begin == tensor.begin && piece.offset == tensor.offset &&
         piece.shape == tensor.shape;
}

// Every stored slice is in the index, as it is there.
void check_indexed(const Manifest& manifest, const ShardHeader& header, int64_t file) {
  for (const ShardTensor& tensor : header.tensors) {
    const auto found = manifest.index.find(tensor.name);
    const bool known = found != manifest.index.end() && found->second.dtype == tensor.dtype &&
                       found->second.global == tensor.global &&
                       std::any_of(found->second.pieces.begin(), found->second.pieces.end(),
                                   [&](const IndexPiece& piece) { return same_piece(piece, tensor, file); });
    if (!known) fail(ErrorKind::data, "shard {} '{}': not as in the index of MANIFEST", file, tensor.name);
  }
}

void read_everything(const ShardReader& shard, bool check_padding) {
  const int64_t chunk = shard.header().chunk;
  const int64_t step = std::max<int64_t>(1, kWindowBytes / chunk);
  std::vector<std::byte> window;
  for (const ShardTensor& tensor : shard.header().tensors) {
    const int64_t chunks = chunk_count(tensor.bytes, chunk);
    window.resize(std::max(window.size(), static_cast<size_t>(std::min(tensor.bytes, step * chunk) + kShardBlobAlign)));
    for (int64_t first = 0; first < chunks; first += step) {
      shard.read_chunks(tensor, first, std::min(step, chunks - first), window, check_padding);
    }
  }
}

}  // namespace

Manifest verify_checkpoint(FileSystem& files, const std::string& checkpoint, VerifyLevel level) {
  Manifest manifest = read_manifest(files, checkpoint);
  size_t stored = 0, indexed = 0;
  for (int64_t i = 0; i < static_cast<int64_t>(manifest.files.size()); ++i) {
    const auto shard = open_shard(files, checkpoint, manifest, i);
    check_indexed(manifest, shard->header(), i);
    stored += shard->header().tensors.size();
    if (level != VerifyLevel::header) read_everything(*shard, /*check_padding=*/level == VerifyLevel::full);
  }
  for (const auto& [name, entry] : manifest.index) {
    indexed += entry.pieces.size();
    check_complete(name, entry);
  }
  if (stored != indexed) {
    fail(ErrorKind::data, "{}: MANIFEST lists {} slices, the shards hold {}", checkpoint, indexed, stored);
  }
  return manifest;
}

}  // namespace farsight
