// SPDX-License-Identifier: Apache-2.0
#include "trainer/collect_model.h"

#include <algorithm>
#include <cstring>
#include <span>

#include "kernels/cuda/device.h"
#include "kernels/error.h"

namespace farsight {
namespace {

// Copies a slice, contiguous in `from`, to its place in the logical tensor.
void place(const ParameterSlice& slice, const float* from, float* to) {
  const int64_t columns = slice.shape.empty() ? 1 : slice.shape.back();
  const int64_t rows = columns == 0 ? 0 : count_of(slice.shape) / columns;
  for (int64_t r = 0; r < rows; ++r) {
    int64_t rest = r;
    int64_t index = slice.shape.empty() ? 0 : slice.first.back();
    int64_t stride = slice.shape.empty() ? 1 : slice.global.back();
    for (size_t d = slice.shape.empty() ? 0 : slice.shape.size() - 1; d-- > 0;) {
      index += (slice.first[d] + rest % slice.shape[d]) * stride;
      rest /= slice.shape[d];
      stride *= slice.global[d];
    }
    std::copy_n(from + r * columns, columns, to + index);
  }
}

// The slice of a parameter on this rank, complete: parts that other ranks of the ZeRO group hold are summed in.
std::vector<float> own_slice(const ParameterShards& shards, const Parameter& p, bool gradients) {
  std::vector<float> slice(static_cast<size_t>(p.numel()), 0.0F);
  for (const StatePiece& piece : shards.pieces()) {
    const int64_t begin = std::max(p.offset, piece.range.begin);
    const int64_t end = std::min(p.offset + p.numel(), piece.range.end);
    if (begin >= end) continue;
    const Tensor data = (gradients ? shards.gradients(piece) : shards.values(piece)).to(Device::cpu);
    std::copy_n(data.data<float>() + (begin - piece.range.begin), end - begin, slice.begin() + (begin - p.offset));
  }
  // Each element is on one rank of the group, the others add 0: exact, but for the sign of a zero.
  if (shards.stage() > 0) shards.mesh().communicator({Axis::zero}).all_reduce(std::span<float>(slice), ReduceOp::sum);
  return slice;
}

// What one rank sends of a parameter: its place, then its elements.
std::vector<float> gather_to_root(const ParameterShards& shards, size_t index, bool gradients) {
  Mesh& mesh = shards.mesh();
  const MeshShape& shape = mesh.shape();
  const Placement& placement = shards.placements()[index];
  const Parameter& p = shards.store().parameters()[index];
  const std::vector<float> mine = own_slice(shards, p, gradients);
  const int64_t rank = mesh.world().rank();
  std::vector<float> whole;
  if (rank == 0) whole.resize(static_cast<size_t>(count_of(p.slice.global)));
  for (int64_t r = 0; r < shape.world(); ++r) {
    if (!writes_checkpoint(placement, shape, r)) continue;
    const ParameterSlice slice = parameter_slice(p.slice.global, placement, shape, r);
    std::vector<float> arrived(static_cast<size_t>(count_of(slice.shape)));
    if (arrived.empty()) continue;
    if (r == rank && r != 0) mesh.world().send(std::as_bytes(std::span(mine)), 0, 0)->wait();
    if (rank == 0 && r == 0) arrived = mine;
    if (rank == 0 && r != 0) {
      mesh.world().receive(std::as_writable_bytes(std::span(arrived)), static_cast<int>(r), 0)->wait();
    }
    if (rank == 0) place(slice, arrived.data(), whole.data());
  }
  return whole;
}

}  // namespace

std::map<std::string, std::vector<float>> collect_tensors(const ParameterShards& shards, bool gradients) {
  std::map<std::string, std::vector<float>> tensors;
  const auto& parameters = shards.store().parameters();
  for (size_t i = 0; i < parameters.size(); ++i) {
    auto whole = gather_to_root(shards, i, gradients);
    if (shards.mesh().world().rank() == 0) tensors.emplace(parameters[i].name, std::move(whole));
  }
  return tensors;
}

std::unique_ptr<LanguageModel> collect_model(const LanguageModel& model, const ParameterShards& shards) {
  if (shards.stage() < 3 && shards.mesh().shape().extent(Axis::tp) == 1) return nullptr;
  std::unique_ptr<LanguageModel> whole;
  if (shards.mesh().world().rank() == 0) {
    const HostScope host;
    whole = std::make_unique<LanguageModel>(model.spec());
    whole->parameters().allocate({.values = true, .gradients = false});
  }
  const auto& parameters = shards.store().parameters();
  for (size_t i = 0; i < parameters.size(); ++i) {
    const auto values = gather_to_root(shards, i, /*gradients=*/false);
    if (whole == nullptr) continue;
    std::copy(values.begin(), values.end(), whole->parameters().parameters()[i].value.data<float>());
  }
  return whole;
}

}  // namespace farsight
