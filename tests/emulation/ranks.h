// SPDX-License-Identifier: Apache-2.0
// Groups of ranks on emulated devices: threads of this process that meet by the id of their group. What NCCL may hang
// on or get wrong without a word is an error here: ranks that call different things, or the operations of several
// groups in different orders; a rank that never comes (work_queue.h); a group that is used after an abort.
//
// FARSIGHT_EMULATION_BREAKS=n, read when a group is made: the n-th operation of each rank never ends, and the group
// reports "injected: link down".
#pragma once

#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <tuple>
#include <vector>

#include "kernels/cuda/collectives_cuda.h"

namespace farsight::emulation {

// How many operations a rank has started in each of its groups, by serial number of the group.
using IssueClock = std::map<uint64_t, int64_t>;
IssueClock& issue_clock();  // of this thread

// One operation of all ranks.
struct Meeting {
  IssueClock clock;        // of the first to come
  std::string call;        // what the first to come wants
  std::vector<bool> came;  // by rank
  std::vector<const void*> inputs;
  std::vector<void*> outputs;
  int come = 0, left = 0;
  bool done = false;
  std::string error;
};

// A message: whoever of the two comes second copies it.
struct Letter {
  const void* from = nullptr;
  void* to = nullptr;
  int64_t sent_bytes = 0, expected_bytes = 0;
  bool done = false;
};

struct EmulatedGroup {
  explicit EmulatedGroup(int size);
  int size() const { return static_cast<int>(present.size()); }

  const uint64_t serial;
  std::mutex mutex;
  std::condition_variable changed;
  std::map<uint64_t, Meeting> meetings;                      // by number of the collective
  std::map<std::tuple<int, int, uint64_t>, Letter> letters;  // from, to, number between the two
  std::vector<bool> present;                                 // by rank, from its coming to its abort
  int arrived = 0;
  std::string failure;  // for ranks_error; from then on nothing is finished
  struct Wish {
    bool made = false;
    int32_t colour = 0, key = 0;
  };
  std::map<uint64_t, std::vector<Wish>> splits;  // by number of the split
  std::map<std::tuple<uint64_t, int32_t>, std::shared_ptr<EmulatedGroup>> parts;
};

}  // namespace farsight::emulation

namespace farsight {

struct CudaRanksTag {
  std::shared_ptr<emulation::EmulatedGroup> group;
  int rank = 0;
  int32_t patience_ms = 0;
  bool aborted = false;
  int64_t breaks = -1;  // number of the operation that never ends
  int64_t operations = 0;
  uint64_t collectives = 0, splits = 0;
  std::map<int, uint64_t> sent{}, received{};  // by peer
};

namespace emulation {
void name_groups(CudaBackend& table);
}  // namespace emulation
}  // namespace farsight
