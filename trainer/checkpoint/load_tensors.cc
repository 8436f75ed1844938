// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstring>
#include <map>

#include "kernels/error.h"
#include "trainer/checkpoint/checkpoint_directory.h"
#include "trainer/checkpoint/load.h"
#include "trainer/checkpoint/load_plan.h"

namespace farsight {
namespace {

// Adjacent chunks are read in one call up to this size.
constexpr int64_t kWindowBytes = 16 << 20;

// Copies parts of stored tensors, chunk by verified chunk, keeping the last window.
class PartReader {
 public:
  explicit PartReader(const ShardReader& shard)
      : shard_(shard), chunk_(shard.header().chunk), limit_(std::max<int64_t>(1, kWindowBytes / chunk_)) {}

  void copy(const PieceRead& read, const TensorTarget& target) {
    const ShardTensor& tensor = shard_.find(target.name, read.piece);
    begin_ = end_ = 0;
    for_each_run({read.offset, read.shape}, {read.piece.offset, read.piece.shape}, {target.offset, target.shape},
                 size_of(target.dtype), [&](int64_t source, int64_t out, int64_t bytes) {
                   copy_run(tensor, source, static_cast<std::byte*>(target.data) + out, bytes);
                 });
  }

 private:
  void copy_run(const ShardTensor& tensor, int64_t source, std::byte* out, int64_t bytes) {
    while (bytes > 0) {
      if (source < begin_ || source >= end_) load_window(tensor, source, source + bytes);
      const int64_t count = std::min(bytes, end_ - source);
      std::memcpy(out, window_.data() + (source - begin_), static_cast<size_t>(count));
      source += count;
      out += count;
      bytes -= count;
    }
  }

  void load_window(const ShardTensor& tensor, int64_t from, int64_t to) {
    const int64_t first = from / chunk_;
    const int64_t count = std::min(limit_, chunk_count(to, chunk_) - first);
    const int64_t room = std::min(count * chunk_, tensor.bytes) + kShardBlobAlign;
    if (static_cast<int64_t>(window_.size()) < room) window_.resize(static_cast<size_t>(room));
    begin_ = end_ = 0;  // nothing valid, should the read throw
    const int64_t loaded = shard_.read_chunks(tensor, first, count, window_, /*check_padding=*/true);
    begin_ = first * chunk_;
    end_ = begin_ + loaded;
  }

  const ShardReader& shard_;
  int64_t chunk_, limit_;
  std::vector<std::byte> window_;
  int64_t begin_ = 0, end_ = 0;  // bytes of the tensor in the window
};

struct PlannedRead {
  PieceRead read;
  const TensorTarget* target;
};

}  // namespace

void load_tensors(FileSystem& files, const std::string& checkpoint, const Manifest& manifest,
                  const std::vector<TensorTarget>& targets) {
  // By file and then by place in the file: one shard is open at a time and is read forwards.
  std::map<std::pair<int64_t, int64_t>, std::vector<PlannedRead>> reads;
  for (const TensorTarget& target : targets) {
    for (PieceRead& read : plan_read(manifest, target)) {
      const std::pair place{read.piece.file, read.piece.begin};
      reads[place].push_back({std::move(read), &target});
    }
  }
  std::unique_ptr<ShardReader> shard;
  std::unique_ptr<PartReader> reader;
  int64_t open_file = -1;
  for (const auto& [place, planned] : reads) {
    if (place.first != open_file) {
      open_file = place.first;
      reader.reset();
      shard = open_shard(files, checkpoint, manifest, open_file);
      reader = std::make_unique<PartReader>(*shard);
    }
    for (const PlannedRead& one : planned) reader->copy(one.read, *one.target);
  }
}

}  // namespace farsight
