// SPDX-License-Identifier: Apache-2.0
// Saves checkpoints while training goes on. Per save: every rank copies its slices into a buffer (the stall), one
// background thread per rank writes and syncs its shard, and once all ranks agree that all are done, the background
// thread of rank 0 commits: manifest last, directory syncs, one rename, LATEST, retention. Background threads never
// communicate; the training loop carries their status in the one MAX all-reduce it makes per step anyway:
//
//   const SaveStatus mine = writer.status();                       // two integers for the step's all-reduce
//   flags = {signal, save_wanted, mine.busy, mine.failure, ...};
//   world.all_reduce(flags, ReduceOp::max);
//   StepReport report = writer.step({flags[1] != 0, flags[0] != 0, {flags[2], flags[3]}}, [&] { return snapshot(); });
//
// Everything collective happens under agreed values only. Any failure on any rank (no space, I/O, lock lost) drops the
// save on all, removes its temporary directory and leaves the older checkpoints alone; `fail_limit` failures in a row
// throw Error{io} on every rank at the same step, a lost lock Error{environment}.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "parallel/comm.h"
#include "trainer/checkpoint/manifest.h"
#include "trainer/checkpoint/tensor_slice.h"
#include "trainer/file_system.h"
#include "trainer/run_lock.h"

namespace farsight {

struct CheckpointOptions {
  std::string directory;          // <run>/checkpoints
  int64_t keep = 3;               // newest that stay, >= 1
  int64_t keep_every = 0;         // checkpoints whose step is a multiple of this stay too; 0: none
  int64_t loaded_step = -1;       // the checkpoint this run was loaded from stays; -1: none
  int64_t chunk_bytes = 4 << 20;  // 64 KiB .. 16 MiB, a multiple of 4096
  int64_t buffers = 2;            // saves that may be in flight; one more is skipped and counted
  int64_t fail_limit = 3;
  bool async = true;              // false: every save is finished before step() returns
  std::function<void()> waiting;  // called about every 100 ms while step() waits for the disk (watchdog, lock)
};

// The state and the slices this rank has to write (see writer_share). The slices' memory is read within step() only.
struct Snapshot {
  CheckpointState state;
  std::vector<TensorSlice> slices;
};

// Contribution of a rank to the step's MAX all-reduce, and the agreed maxima.
struct SaveStatus {
  int64_t busy = 0;     // 1: the oldest save in flight still needs this rank's background thread
  int64_t failure = 0;  // 0 none, 1 input/output, 2 lock lost
};

struct AgreedFlags {
  bool save = false;  // a save is wanted at this step
  bool wait = false;  // requested stop: nothing is skipped, and everything is committed when step() returns
  SaveStatus saving;
};

struct StepReport {
  int64_t committed_step = -1;        // newest step committed during this call
  bool skipped = false;               // wanted, but all buffers are in flight
  std::vector<std::string> failures;  // why saves were dropped, naming the rank; equal on all ranks
  std::vector<std::string> warnings;  // rank 0 only: what could not be tidied up after a commit or a drop
};

struct CheckpointMetrics {
  double stall_ms = 0;  // training thread, sum over saves
  double last_stall_ms = 0;
  double write_s = 0;  // background thread of this rank, sum
  int64_t bytes = 0;   // written by this rank and committed
  int64_t committed = 0;
  int64_t skipped = 0;
  int64_t failed = 0;
  int64_t last_committed_step = -1;
};

class CheckpointWriter {
 public:
  // lock: rank 0's; nullptr on the other ranks and where no lock is wanted. Collective (agrees that all is well).
  CheckpointWriter(CheckpointOptions options, FileSystem& files, Communicator& world, const RunLock* lock);
  ~CheckpointWriter();  // not collective: waits for the running write; an uncommitted save stays .tmp-* for the cleanup
  CheckpointWriter(const CheckpointWriter&) = delete;
  CheckpointWriter& operator=(const CheckpointWriter&) = delete;

  void reserve(int64_t bytes);  // allocates the buffers now; else the first saves do
  SaveStatus status() const;    // of this rank, not collective
  // Collective, once per step on every rank with equal flags. `snapshot` is called only if a save starts.
  StepReport step(const AgreedFlags& agreed, const std::function<Snapshot()>& snapshot);
  // Collective: commits or drops everything in flight (end of training).
  StepReport finish();
  CheckpointMetrics metrics() const;

 private:
  struct Implementation;
  std::unique_ptr<Implementation> implementation_;
};

// HEALTHY joins the checkpoint of this step (rank 0). Error{io}.
void mark_healthy(FileSystem& files, const std::string& directory, int64_t step);

}  // namespace farsight
