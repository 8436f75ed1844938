// SPDX-License-Identifier: Apache-2.0
// A step that repeats, handed to the device as one CUDA graph: the device then starts its hundreds of kernels without
// waiting for the host to launch each. The step is recorded anew every time and the graph of the time before is told
// the new arguments (which is how numbers that change, such as the learning rate, and memory that moves get into it);
// only when the sequence of operations differs is a graph made from nothing.
//
// While a step is recorded nothing is done: whatever the host waits for is an error. One stream, one thread, no
// transfers between ranks.
#pragma once

#include <cstdint>
#include <functional>

#include "kernels/cuda/device.h"

namespace farsight {

class StepGraph {
 public:
  // `device` is that of the thread and outlives the object.
  explicit StepGraph(CudaDevice& device) : device_(device) {}
  ~StepGraph();
  StepGraph(const StepGraph&) = delete;
  StepGraph& operator=(const StepGraph&) = delete;

  // Calls step(), whose work for the device is recorded, and launches it. An exception of step() drops the recording:
  // the device has then done nothing of it.
  void run(const std::function<void()>& step);

  int64_t launches() const { return launches_; }
  int64_t made() const { return made_; }  // graphs made from nothing

 private:
  CudaDevice& device_;
  CudaGraph graph_ = nullptr;
  int64_t launches_ = 0, made_ = 0;
};

}  // namespace farsight
