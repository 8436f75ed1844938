// SPDX-License-Identifier: Apache-2.0
// Finding and loading a checkpoint in any layout. Rank 0 lists and checks candidates, its decision is broadcast, every
// rank reads the ranges its targets need; a mismatch on any rank rejects the candidate for all.
//
//   auto loaded = load_checkpoint(request, "runs/x/checkpoints", files, world, [&](const Manifest& m) {
//     check_config(m.state.config_text);            // may throw Error{config}
//     return targets_of(model, optimizer);
//   });
//   for (const std::string& note : loaded.notes) ...print...
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "parallel/comm.h"
#include "trainer/checkpoint/manifest.h"
#include "trainer/checkpoint/tensor_slice.h"
#include "trainer/file_system.h"

namespace farsight {

// header: manifest, sizes, footers, headers; chunks: also every chunk; full: also that all padding is zero.
enum class VerifyLevel : uint8_t { header, chunks, full };

// --resume=never|auto|PATH
struct ResumeRequest {
  enum class Mode : uint8_t { never, automatic, path } mode = Mode::never;
  std::string path;
  VerifyLevel level = VerifyLevel::header;  // what rank 0 checks of a candidate first; reading checks chunks anyway
};
ResumeRequest parse_resume(std::string_view text);

struct LoadedCheckpoint {
  std::optional<Manifest> manifest;  // empty: fresh start
  std::string path;
  std::vector<std::string> notes;  // lines to print: rejected candidates, fresh start; equal on all ranks
};

// Collective. never: Error{config} if a committed checkpoint is present. auto: newest good one; damaged ones are
// rejected with a note ("checkpoint step 1300 rejected: ...; trying step 1200"); none good of several: Error{data};
// none at all: fresh start. path: that one or Error{data}; newer ones of the same run become .rewound-* afterwards.
// `targets` is called on every rank, once per candidate; what it throws ends the load (on all ranks if on any).
LoadedCheckpoint load_checkpoint(const ResumeRequest& request, const std::string& directory, FileSystem& files,
                                 Communicator& world,
                                 const std::function<std::vector<TensorTarget>(const Manifest&)>& targets);

// Not collective. Fills the targets from a checkpoint directory; every chunk read is verified.
// Error{data} naming shard, tensor, slice, chunk or gap.
void load_tensors(FileSystem& files, const std::string& checkpoint, const Manifest& manifest,
                  const std::vector<TensorTarget>& targets);

// Error{data} or Error{io} for the first thing wrong; returns the manifest of a good one.
Manifest verify_checkpoint(FileSystem& files, const std::string& checkpoint, VerifyLevel level);

// Committed directories "step-N" of a run, newest first; whether they are good is not looked at.
struct Candidate {
  int64_t step = 0;
  std::string path;
};
std::vector<Candidate> list_checkpoints(FileSystem& files, const std::string& directory);

}  // namespace farsight
