// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/step_graph.h"

namespace farsight {

StepGraph::~StepGraph() {
  if (graph_ != nullptr) device_.backend().graph_destroy(graph_);
}

void StepGraph::run(const std::function<void()>& step) {
  device_.begin_recording();
  try {
    step();
  } catch (...) {
    device_.drop_recording();
    throw;
  }
  made_ += device_.launch_recording(graph_) ? 1 : 0;
  ++launches_;
}

}  // namespace farsight
