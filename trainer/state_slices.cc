// SPDX-License-Identifier: Apache-2.0
#include "trainer/state_slices.h"

#include <algorithm>
#include <functional>
#include <map>
#include <numeric>
#include <set>
#include <string>
#include <utility>

#include "kernels/error.h"

namespace farsight {
namespace {

// A box of some tensor of this rank, with the axes over which other ranks hold the same.
struct HeldBox {
  SliceBox box;
  AxisSet replicas;
  Tensor values;  // f32, as many elements, wherever the rank computes
};

int64_t product(const Shape& shape, size_t first) {
  return std::accumulate(shape.begin() + static_cast<std::ptrdiff_t>(first), shape.end(), int64_t{1},
                         std::multiplies<>());
}

// Appends the boxes of [begin, end) of the sub-slice at dimension d, whose place in the dimensions before is `box`.
void split_range(const ParameterSlice& slice, size_t d, int64_t begin, int64_t end, int64_t base, FlatBox box,
                 std::vector<FlatBox>& out) {
  if (begin >= end) return;
  if (d == slice.shape.size()) {
    out.push_back(std::move(box));
    out.back().begin = base;
    return;
  }
  const int64_t inner = product(slice.shape, d + 1);
  const auto rows = [&](int64_t first, int64_t last) {
    if (first >= last) return;
    FlatBox whole = box;
    whole.offset[d] = slice.first[d] + first;
    whole.shape[d] = last - first;
    whole.begin = base + first * inner;
    out.push_back(std::move(whole));
  };
  const auto part = [&](int64_t row, int64_t from, int64_t to) {
    FlatBox one = box;
    one.offset[d] = slice.first[d] + row;
    one.shape[d] = 1;
    split_range(slice, d + 1, from, to, base + row * inner, std::move(one), out);
  };
  const int64_t first_whole = (begin + inner - 1) / inner;
  const int64_t last_whole = end / inner;
  if (first_whole > last_whole) {  // inside one row
    part(begin / inner, begin % inner, begin % inner + (end - begin));
    return;
  }
  if (begin % inner != 0) part(begin / inner, begin % inner, inner);
  rows(first_whole, last_whole);
  if (end % inner != 0) part(last_whole, 0, end % inner);
}

SliceBox box_of(std::string name, const Shape& global, Shape offset, Shape shape) {
  return {std::move(name), DType::f32, global, std::move(offset), std::move(shape)};
}

std::string prefix_of(const Optimizer::State& state) { return "optim." + state.name + "/"; }

// Nothing of a checkpoint may be left over: a smaller model would load without a word.
void check_known(const Manifest& manifest, const ParameterShards& shards, const Optimizer& optimizer) {
  std::set<std::string> known;
  for (const Parameter& p : shards.store().parameters()) {
    known.insert(p.name);
    for (const auto& state : optimizer.state()) known.insert(prefix_of(state) + p.name);
  }
  for (const auto& [name, entry] : manifest.index) {
    if (known.contains(name)) continue;
    fail(
        ErrorKind::data,
        "the checkpoint holds the tensor '{}', which this model and its optimizer do not have; was it saved by another "
        "model?",
        name);
  }
}

// The parts of an array that is laid out as ParameterShards::pieces() says; `part` gives the elements of a piece.
void add_packed(const ParameterShards& shards, const std::string& prefix,
                const std::function<Tensor(const StatePiece&)>& part, std::vector<HeldBox>& out) {
  const auto& parameters = shards.store().parameters();
  for (size_t i = 0; i < parameters.size(); ++i) {
    const Parameter& p = parameters[i];
    for (const StatePiece& piece : shards.pieces()) {
      const int64_t begin = std::max(p.offset, piece.range.begin);
      const int64_t end = std::min(p.offset + p.numel(), piece.range.end);
      if (begin >= end) continue;
      for (auto& box : flat_boxes(p.slice, begin - p.offset, end - p.offset)) {
        const Tensor values = part(piece).narrow(p.offset + box.begin - piece.range.begin, count_of(box.shape));
        out.push_back({box_of(prefix + p.name, p.slice.global, std::move(box.offset), std::move(box.shape)),
                       shards.state_replicas(i), values});
      }
    }
  }
}

std::vector<HeldBox> held_boxes(const ParameterShards& shards, const Optimizer& optimizer) {
  std::vector<HeldBox> out;
  if (shards.stage() == 3 || shards.has_masters()) {
    add_packed(
        shards, "", [&](const StatePiece& piece) { return shards.values(piece); }, out);
  } else {
    const auto& parameters = shards.store().parameters();
    for (size_t i = 0; i < parameters.size(); ++i) {
      const Parameter& p = parameters[i];
      if (p.numel() == 0) continue;
      out.push_back({box_of(p.name, p.slice.global, p.slice.first, p.slice.shape),
                     replicate_axes(shards.placements()[i], shards.mesh().shape()), p.value});
    }
  }
  for (const auto& state : optimizer.state()) {
    add_packed(
        shards, prefix_of(state),
        [&](const StatePiece& piece) { return state.packed.narrow(piece.packed, piece.range.count()); }, out);
  }
  return out;
}

}  // namespace

std::vector<FlatBox> flat_boxes(const ParameterSlice& slice, int64_t begin, int64_t end) {
  std::vector<FlatBox> boxes;
  split_range(slice, 0, begin, end, 0, {slice.first, slice.shape, 0}, boxes);
  return boxes;
}

std::vector<TensorSlice> state_slices(const ParameterShards& shards, const Optimizer& optimizer) {
  std::map<AxisSet, std::vector<TensorSlice>> by_replicas;
  for (auto& held : held_boxes(shards, optimizer)) {
    by_replicas[held.replicas].push_back({std::move(held.box), held.values.raw(), held.values.device()});
  }
  const MeshShape& mesh = shards.mesh().shape();
  const int64_t rank = shards.mesh().world().rank();
  std::vector<TensorSlice> out;
  for (const auto& [axes, slices] : by_replicas) {
    const auto group = mesh.group(rank, axes);
    const auto place = std::find(group.begin(), group.end(), rank) - group.begin();
    for (auto& slice : writer_share(slices, static_cast<int>(place), static_cast<int>(group.size()))) {
      out.push_back(std::move(slice));
    }
  }
  return out;
}

LoadTargets state_targets(const Manifest& manifest, const ParameterShards& shards, const Optimizer& optimizer) {
  check_known(manifest, shards, optimizer);
  LoadTargets out;
  for (auto& held : held_boxes(shards, optimizer)) out.add(std::move(held.box), held.values);
  return out;
}

void take_loaded_state(LoadTargets& loaded, ParameterShards& shards) {
  loaded.deliver();
  if (!shards.has_masters()) return;
  shards.round_values();
  shards.gather_values();
}

}  // namespace farsight
