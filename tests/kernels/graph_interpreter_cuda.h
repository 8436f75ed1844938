// SPDX-License-Identifier: Apache-2.0
// Runs the operations of a cuDNN graph as they were written, one element at a time in fp64, so that what a graph says
// can be compared with what was meant. The library is not asked.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "kernels/attention/cudnn_graph_cuda.h"

namespace farsight::testing {

class GraphInterpreter {
 public:
  explicit GraphInterpreter(const cuda::SdpaGraph& graph) : graph_(graph) {}

  // Memory of a tensor, addressed by its strides.
  std::vector<double>& memory(cuda::SdpaTensor id) { return memory_[static_cast<int64_t>(id)]; }
  void run();

 private:
  using Index = std::array<int64_t, 4>;
  const cuda::GraphTensor& tensor(int64_t id) const { return graph_.parts.tensors().at(id); }
  int64_t address(const cuda::GraphTensor& t, const Index& i) const;
  double load(int64_t id, Index i) const;
  void store(int64_t id, const Index& i, double value);
  int64_t length(int64_t id, int64_t sample, int64_t otherwise) const;

  void matmul(const cuda::GraphOperation& o);
  void pointwise(const cuda::GraphOperation& o);
  void reduce(const cuda::GraphOperation& o);
  void reshape(const cuda::GraphOperation& o);

  const cuda::SdpaGraph& graph_;
  std::map<int64_t, std::vector<double>> memory_;
};

}  // namespace farsight::testing
