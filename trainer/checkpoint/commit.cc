// SPDX-License-Identifier: Apache-2.0
#include "trainer/checkpoint/commit.h"

#include <algorithm>
#include <charconv>

#include <fmt/format.h>

#include "kernels/error.h"
#include "trainer/checkpoint/checkpoint_directory.h"
#include "trainer/checkpoint/load.h"
#include "trainer/checkpoint/load_plan.h"

namespace farsight {
namespace {

void write_manifest(FileSystem& files, const std::string& temporary, const Manifest& manifest) {
  OutputFile file(files, temporary + "/" + kManifestName);
  file.write(encode_manifest(manifest));
  file.sync();
  file.close();
  check_io(files.sync_directory(temporary), "cannot sync directory", temporary);
}

void check_lock(const RunLock* lock, const std::string& directory) {
  if (lock == nullptr || lock->owned()) return;
  fail(ErrorKind::environment, "{}: run.lock belongs to another job now; this one stops without touching anything",
       directory);
}

// A directory of that name is from an abandoned or damaged save: rename onto it would fail.
void rename_into_place(FileSystem& files, const std::string& temporary, const std::string& final_path,
                       const std::string& aside) {
  const bool taken = exists(files, final_path);
  if (taken) check_io(files.rename(final_path, aside), "cannot set aside", final_path);
  const int result = files.rename(temporary, final_path);
  if (result < 0 && taken) files.rename(aside, final_path);
  check_io(result, "cannot rename to", final_path);
}

bool kept(const std::vector<Candidate>& all, size_t i, const RetentionRule& rule, int64_t healthy_step, int64_t best) {
  const int64_t step = all[i].step;
  return static_cast<int64_t>(i) < rule.keep || step == rule.loaded_step || step == healthy_step || step == best ||
         (rule.keep_every > 0 && step % rule.keep_every == 0);
}

int64_t newest_healthy(FileSystem& files, const std::vector<Candidate>& all) {
  for (const Candidate& candidate : all) {
    if (exists(files, candidate.path + "/" + kHealthyName)) return candidate.step;
  }
  return -1;
}

}  // namespace

std::string encode_written_shard(const WrittenShard& shard) {
  return fmt::format("{} {} {}\n{}", shard.file.bytes, shard.file.crc_header, shard.file.crc_table,
                     encode_shard_header(shard.header));
}

WrittenShard decode_written_shard(const std::string& text) {
  WrittenShard shard;
  const char* at = text.data();
  const char* const end = at + text.size();
  at = std::from_chars(at, end, shard.file.bytes).ptr + 1;
  at = std::from_chars(at, end, shard.file.crc_header).ptr + 1;
  at = std::from_chars(at, end, shard.file.crc_table).ptr + 1;
  shard.header = decode_shard_header(std::string_view(at, static_cast<size_t>(end - at)), "message of a writer");
  shard.file.name = shard_name(shard.header.writer, shard.header.writers);
  return shard;
}

Manifest assemble_manifest(const CheckpointState& state, const std::string& uuid,
                           const std::vector<WrittenShard>& shards) {
  Manifest manifest;
  manifest.uuid = uuid;
  manifest.state = state;
  for (const WrittenShard& shard : shards) {
    const auto file = static_cast<int64_t>(manifest.files.size());
    manifest.files.push_back(shard.file);
    for (const ShardTensor& tensor : shard.header.tensors) {
      IndexEntry& entry = manifest.index[tensor.name];
      if (entry.pieces.empty()) {
        entry.dtype = tensor.dtype;
        entry.global = tensor.global;
      }
      if (entry.dtype != tensor.dtype || entry.global != tensor.global) {
        fail(ErrorKind::internal, "checkpoint: ranks disagree about dtype or shape of '{}'", tensor.name);
      }
      entry.pieces.push_back({file, tensor.begin, tensor.offset, tensor.shape});
    }
  }
  try {
    for (const auto& [name, entry] : manifest.index) check_complete(name, entry);
  } catch (const Error& error) {
    fail(ErrorKind::internal, "checkpoint: {}", error.what());
  }
  return manifest;
}

void commit_checkpoint(FileSystem& files, const std::string& directory, const std::string& temporary,
                       const Manifest& manifest, const RunLock* lock) {
  const std::string name = step_name(manifest.state.step);
  check_lock(lock, directory);
  write_manifest(files, temporary, manifest);
  check_lock(lock, directory);  // the writes above may have taken long
  rename_into_place(files, temporary, directory + "/" + name,
                    fmt::format("{}/.bad-{}-{}", directory, name, manifest.uuid));
  check_io(files.sync_directory(directory), "cannot sync directory", directory);
  replace_file(files, directory + "/" + kLatestName, name + "\n");
}

void apply_retention(FileSystem& files, const std::string& directory, const RetentionRule& rule) {
  const std::vector<Candidate> all = list_checkpoints(files, directory);
  const int64_t healthy_step = newest_healthy(files, all);
  const int64_t best = best_step(files, directory).value_or(-1);
  for (size_t i = 0; i < all.size(); ++i) {
    if (kept(all, i, rule, healthy_step, best)) continue;
    const std::string trash = directory + "/.trash-" + file_name(all[i].path);
    remove_tree(files, trash);
    check_io(files.rename(all[i].path, trash), "cannot rename", all[i].path);
    remove_tree(files, trash);
  }
}

}  // namespace farsight
