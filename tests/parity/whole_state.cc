// SPDX-License-Identifier: Apache-2.0
#include "tests/parity/whole_state.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <functional>
#include <numeric>
#include <stdexcept>

namespace farsight {
namespace {

int64_t volume(const Shape& shape) {
  return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
}

// Row-major place in the logical tensor of element `local` of the slice.
int64_t global_element(const ParameterSlice& slice, int64_t local) {
  int64_t place = 0, stride = 1;
  for (size_t d = slice.shape.size(); d-- > 0;) {
    place += (slice.first[d] + local % slice.shape[d]) * stride;
    local /= slice.shape[d];
    stride *= slice.global[d];
  }
  return place;
}

}  // namespace

// `data` is element `first` of the parameter's slice on this rank, of the tensor `name`.
struct WholeState::Held {
  std::string name;
  const float* data;
};

void WholeState::put(const Held& held, const Parameter& p, int64_t first, int64_t count) {
  const std::lock_guard lock(mutex_);
  auto& values = tensors_[held.name];
  auto& known = known_[held.name];
  values.resize(static_cast<size_t>(volume(p.slice.global)));
  known.resize(values.size(), false);
  for (int64_t i = 0; i < count; ++i) {
    const auto at = static_cast<size_t>(global_element(p.slice, first + i));
    const bool same = std::bit_cast<uint32_t>(values[at]) == std::bit_cast<uint32_t>(held.data[i]);
    if (known[at] && !same) throw std::runtime_error(held.name + " differs between ranks at " + std::to_string(at));
    values[at] = held.data[i];
    known[at] = true;
  }
}

void WholeState::add(LayoutTrainer& trainer) {
  ParameterShards& shards = trainer.shards();
  for (const Parameter& p : shards.store().parameters()) {
    if (shards.stage() < 3) put({p.name, p.value.data<float>()}, p, 0, p.numel());
    for (const StatePiece& piece : shards.pieces()) {
      const int64_t begin = std::max(p.offset, piece.range.begin);
      const int64_t count = std::min(p.offset + p.numel(), piece.range.end) - begin;
      if (count <= 0) continue;
      const int64_t within = begin - piece.range.begin;
      if (shards.stage() == 3) put({p.name, shards.values(piece).data<float>() + within}, p, begin - p.offset, count);
      for (const auto& state : trainer.optimizer().state()) {
        put({state.name + " of " + p.name, state.packed.data<float>() + piece.packed + within}, p, begin - p.offset,
            count);
      }
    }
  }
}

std::string WholeState::difference(const WholeState& other) const {
  if (tensors_.size() != other.tensors_.size()) return "the number of tensors";
  for (const auto& [name, values] : tensors_) {
    const auto found = other.tensors_.find(name);
    if (found == other.tensors_.end() || found->second.size() != values.size()) return name;
    if (std::memcmp(values.data(), found->second.data(), values.size() * sizeof(float)) != 0) return name;
  }
  return {};
}

std::string WholeState::gap() const {
  for (const auto& [name, known] : known_) {
    const auto hole = std::find(known.begin(), known.end(), false);
    if (hole != known.end()) return name + " at " + std::to_string(hole - known.begin());
  }
  return {};
}

}  // namespace farsight
