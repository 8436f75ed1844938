// SPDX-License-Identifier: Apache-2.0
// What rank 0 does to make a written save a checkpoint, and to tidy up. File calls only; runs on a background thread.
#pragma once

#include <string>
#include <vector>

#include "trainer/checkpoint/manifest.h"
#include "trainer/checkpoint/shard_format.h"
#include "trainer/file_system.h"
#include "trainer/run_lock.h"

namespace farsight {

// What rank 0 must know of a written shard; travels as text.
struct WrittenShard {
  ShardFile file;
  ShardHeader header;
};
std::string encode_written_shard(const WrittenShard& shard);
WrittenShard decode_written_shard(const std::string& text);

// Error{internal} unless every tensor is covered exactly by the shards together.
Manifest assemble_manifest(const CheckpointState& state, const std::string& uuid,
                           const std::vector<WrittenShard>& shards);

// Manifest last, directory syncs, one rename, LATEST. `temporary` lies in `directory`. Error{environment} if the lock
// is no longer ours (nothing was renamed then), Error{io}.
void commit_checkpoint(FileSystem& files, const std::string& directory, const std::string& temporary,
                       const Manifest& manifest, const RunLock* lock);

struct RetentionRule {
  int64_t keep = 3;
  int64_t keep_every = 0;
  int64_t loaded_step = -1;
};
// Removes what no rule keeps: newest `keep`, multiples of keep_every, the newest HEALTHY, the one that BEST names,
// loaded_step. Error{io}.
void apply_retention(FileSystem& files, const std::string& directory, const RetentionRule& rule);

}  // namespace farsight
