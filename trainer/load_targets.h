// SPDX-License-Identifier: Apache-2.0
// Where a load of a checkpoint puts what it reads, for tensors wherever they lie: host memory in fp32 is filled in
// place; for other tensors the load fills a host copy, which deliver() moves to the device and rounds to their type.
#pragma once

#include <utility>
#include <vector>

#include "kernels/tensor.h"
#include "trainer/checkpoint/tensor_slice.h"

namespace farsight {

class LoadTargets {
 public:
  // `values`, contiguous, f32 or bf16, with as many elements as the box has, get the box; box.dtype is f32.
  void add(SliceBox box, const Tensor& values);
  const std::vector<TensorTarget>& targets() const { return targets_; }
  // After the load, once, on the thread that computes on the tensors.
  void deliver();

 private:
  std::vector<TensorTarget> targets_;
  std::vector<std::pair<Tensor, Tensor>> staged_;  // what the load fills, where it goes
};

}  // namespace farsight
