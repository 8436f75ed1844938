// SPDX-License-Identifier: Apache-2.0
// A small training state whose every element follows from (tensor name, step, element), so that a loaded tensor can be
// checked without keeping what was saved; and helpers that save and load it on any number of ranks.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "parallel/comm.h"
#include "trainer/checkpoint/load.h"
#include "trainer/checkpoint/writer.h"
#include "trainer/file_system.h"

namespace farsight {

struct SampleTensor {
  std::string name;
  DType dtype;
  Shape shape;
};

// Ragged sizes, several chunks, a scalar, an empty tensor, leading ones, several dtypes; about 300 KiB.
std::vector<SampleTensor> sample_tensors();
// A few KiB in few tensors: for sweeps over every file call or every byte.
std::vector<SampleTensor> tiny_tensors();

// Byte `i` of the tensor at a step; never all zero.
std::byte sample_byte(const std::string& name, int64_t step, int64_t i);

// The replicated state of one rank.
class SampleState {
 public:
  SampleState(std::vector<SampleTensor> tensors, int64_t step);
  std::vector<TensorSlice> slices() const;
  CheckpointState state() const;  // all fields set
  Snapshot snapshot(const Communicator& world) const;

 private:
  std::vector<SampleTensor> tensors_;
  int64_t step_;
  std::map<std::string, std::vector<std::byte>> data_;
};

CheckpointOptions sample_options(const std::string& directory);
// Collective: a synchronous save; the report of the writer. Errors of the writer come through.
StepReport save_sample(FileSystem& files, Communicator& world, const CheckpointOptions& options,
                       const std::vector<SampleTensor>& tensors, int64_t step, const RunLock* lock = nullptr);
// The same on threads as ranks.
void save_on_ranks(FileSystem& files, int ranks, const CheckpointOptions& options,
                   const std::vector<SampleTensor>& tensors, int64_t step);

// Memory for everything, whole.
class SampleTargets {
 public:
  explicit SampleTargets(const std::vector<SampleTensor>& tensors);
  std::vector<TensorTarget> targets();
  // Empty, or the first tensor that is not the one of this step.
  std::string mismatch(int64_t step) const;

 private:
  std::vector<SampleTensor> tensors_;
  std::map<std::string, std::vector<std::byte>> data_;
};

// Loads on one rank and checks every byte; the step, or -1 for a fresh start. Throws what loading throws, and
// std::runtime_error for wrong bytes. notes: appended.
int64_t load_sample(FileSystem& files, const std::string& directory, const ResumeRequest& request,
                    const std::vector<SampleTensor>& tensors, std::vector<std::string>* notes = nullptr);
// What it threw, or "" ; kind is set if it threw an Error.
std::string load_error(FileSystem& files, const std::string& directory, const ResumeRequest& request,
                       const std::vector<SampleTensor>& tensors, int* exit_code_out = nullptr);

// Names below `directory` that must not be there after a save: .tmp-*, .trash-*.
std::vector<std::string> leftovers(FileSystem& files, const std::string& directory);

// A fresh directory on disk, removed at the end.
class ScratchDirectory {
 public:
  ScratchDirectory();
  ~ScratchDirectory();
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace farsight
