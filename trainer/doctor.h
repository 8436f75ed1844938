// SPDX-License-Identifier: Apache-2.0
// Examines what a run depends on: cores and how ranks share them, speed of the matrix library against the measured
// ceiling, memory, disk, launcher, and the functions whose bits others rely on. Every finding names its cure.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "parallel/device_choice.h"

namespace farsight {

enum class CheckState : uint8_t { ok, warning, failed };  // failed: a run cannot work here (exit 69)

struct DoctorCheck {
  std::string name;
  CheckState state = CheckState::ok;
  std::string found;
  std::string cure;  // empty when ok
};

// What one rank sees of itself.
struct RankReport {
  int64_t rank = 0, local_rank = 0, local_size = 1;
  int64_t cores_allowed = 0;  // by affinity and control group
  int64_t cores_online = 0;   // of the node
  int64_t threads = 0;        // of parallel_for
  double fma_flops = 0.0;     // measured ceiling of this rank, while all ranks measure
  double gemm_flops = 0.0;    // the matrix library, while all ranks measure
  std::string host;
};
RankReport examine_rank();  // all but rank, local_rank, local_size; takes about 0.3 s

// Judgements on what was measured: no side effects.
std::vector<DoctorCheck> judge_ranks(std::span<const RankReport> ranks);
// sharing: of MpiSession. A warning where ranks of one node have no memory in common.
DoctorCheck judge_sharing(const std::string& sharing, std::span<const RankReport> ranks);

// By rank; without a name where a rank has none. How tensors on them would travel.
DoctorCheck judge_devices(std::span<const RankDevice> devices);
// The device that a rank of this node takes: they are dealt out in turn.
RankDevice device_of_rank(int64_t local_rank);

// Checks of this node, for rank 0. check_disk writes and removes a file in `folder`.
DoctorCheck check_launcher();
DoctorCheck check_cuda();
DoctorCheck check_memory();
DoctorCheck check_disk(const std::string& folder);
// CRC-32C, Philox, and hash vectors: their values are part of files and of training results.
DoctorCheck check_vectors();

std::string doctor_text(std::span<const RankReport> ranks, std::span<const DoctorCheck> checks);
std::string doctor_json(std::span<const RankReport> ranks, std::span<const DoctorCheck> checks);

}  // namespace farsight
