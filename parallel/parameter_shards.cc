// SPDX-License-Identifier: Apache-2.0
#include "parallel/parameter_shards.h"

#include <algorithm>

#include "kernels/error.h"
#include "kernels/rows.h"

namespace farsight {

ParameterShards::ParameterShards(ParameterStore& store, Mesh& mesh, std::span<const Placement> placements,
                                 int64_t stage, int64_t bucket_bytes, DType value_type)
    : store_(store), mesh_(mesh), placements_(placements), stage_(stage) {
  if (stage < 0 || stage > 3) fail(ErrorKind::internal, "parameter shards: stage {} is not in [0, 3]", stage);
  store.allocate({.values = stage < 3, .gradients = stage < 2, .value_type = value_type});
  buckets_ = plan_buckets(store, placements, mesh.shape(), bucket_bytes, /*by_unit=*/stage >= 2);
  cut_pieces();
  const Shape packed{packed_elements_};
  if (stage >= 2) packed_gradients_ = Tensor::zeros(packed, DType::f32, MemoryTag::gradient);
  if (stage == 3) packed_values_ = Tensor::zeros(packed, value_type, MemoryTag::parameter);
  if (value_type != DType::f32) masters_ = Tensor::zeros(packed, DType::f32, MemoryTag::optimizer);
}

void ParameterShards::cut_pieces() {
  if (stage_ == 0) {
    pieces_.push_back({{0, store_.slab_elements()}, 0});
    packed_elements_ = store_.slab_elements();
    return;
  }
  const MeshShape& shape = mesh_.shape();
  for (const auto& bucket : buckets_) {
    const SlabRange own =
        shard_of(bucket.range, shape.index(mesh_.world().rank(), Axis::zero), shape.extent(Axis::zero));
    pieces_.push_back({own, packed_elements_});
    packed_elements_ += own.count();
  }
}

AxisSet ParameterShards::state_replicas(size_t parameter) const {
  const AxisSet axes = replicate_axes(placements_[parameter], mesh_.shape());
  if (stage_ == 0) return axes;
  const AxisSet groups = mesh_.shape().extent(Axis::zrep) > 1 ? AxisSet{Axis::zrep} : AxisSet{};
  return axes.without(kDataContextAxes) | groups;
}

// Where operations find their values of a piece.
Tensor ParameterShards::computed(const StatePiece& piece) const {
  const Tensor& slab = stage_ == 3 ? packed_values_ : store_.values();
  const int64_t begin = stage_ == 3 ? piece.packed : piece.range.begin;
  return slab.narrow(begin, piece.range.count());
}

Tensor ParameterShards::values(const StatePiece& piece) const {
  return has_masters() ? masters_.narrow(piece.packed, piece.range.count()) : computed(piece);
}

Tensor ParameterShards::rounded(const StatePiece& piece) const { return has_masters() ? computed(piece) : Tensor(); }

Tensor ParameterShards::gradients(const StatePiece& piece) const {
  const Tensor& slab = stage_ >= 2 ? packed_gradients_ : store_.gradients();
  const int64_t begin = stage_ >= 2 ? piece.packed : piece.range.begin;
  return slab.narrow(begin, piece.range.count());
}

Tensor ParameterShards::unit_gradients(int64_t unit) const {
  const auto found = unit_gradients_.find(unit);
  return found == unit_gradients_.end() ? Tensor() : found->second;
}

void ParameterShards::drop_unit_gradients(int64_t unit) {
  if (unit_gradients_.erase(unit) > 0) store_.bind_gradients(unit, Tensor());
}

// Parameter by parameter, so that the whole model never stands here at stage 3.
void ParameterShards::initialize(uint64_t seed) {
  for (const Parameter& p : store_.parameters()) {
    if (p.numel() == 0) continue;
    const Tensor initial = ParameterStore::initial_values(p, seed).to(current_device()).view({p.numel()});
    if (p.value.defined()) copy_rows(initial, p.value.view({p.numel()}));
    for (const auto& piece : pieces_) {
      const int64_t begin = std::max(p.offset, piece.range.begin);
      const int64_t count = std::min(p.offset + p.numel(), piece.range.end) - begin;
      if (count > 0) {
        copy_rows(initial.narrow(begin - p.offset, count), values(piece).narrow(begin - piece.range.begin, count));
      }
    }
  }
  round_values();
}

void ParameterShards::round_values() {
  if (!has_masters()) return;
  for (const auto& piece : pieces_) {
    if (piece.range.count() > 0) copy_rows(values(piece), rounded(piece));
  }
}

void ParameterShards::gather_values() {
  if (stage_ == 0 || stage_ == 3) return;
  Communicator& zero = mesh_.communicator({Axis::zero});
  std::vector<RequestPtr> requests;
  for (size_t b = 0; b < buckets_.size(); ++b) {
    const SlabRange& range = buckets_[b].range;
    const Tensor all = store_.values().narrow(range.begin, range.count());
    requests.push_back(zero.all_gather_tensor(computed(pieces_[b]), all, shard_counts(range, zero.size())));
  }
  for (const auto& request : requests) request->wait();
}

void ParameterShards::start_gathering(int64_t unit) {
  const bool exists = unit >= 0 && unit < static_cast<int64_t>(store_.units().size());
  if (!exists || gathered_.contains(unit)) return;
  const auto& range = store_.units()[static_cast<size_t>(unit)];
  Communicator& zero = mesh_.communicator({Axis::zero});
  Gathering& gathering = gathered_[unit];
  gathering.slab = Tensor::empty({range.end - range.begin}, store_.value_type(), MemoryTag::parameter);
  for (size_t b = 0; b < buckets_.size(); ++b) {
    if (buckets_[b].unit != unit) continue;
    const SlabRange& bucket = buckets_[b].range;
    const Tensor all = gathering.slab.narrow(bucket.begin - range.begin, bucket.count());
    gathering.requests.push_back(zero.all_gather_tensor(computed(pieces_[b]), all, shard_counts(bucket, zero.size())));
  }
}

void ParameterShards::finish_gathering(int64_t unit) {
  start_gathering(unit);
  Gathering& gathering = gathered_.at(unit);
  for (const auto& request : gathering.requests) request->wait();
  gathering.requests.clear();
  store_.bind_values(unit, gathering.slab);
}

void ParameterShards::release(int64_t unit) {
  store_.bind_values(unit, Tensor());
  gathered_.erase(unit);
}

void ParameterShards::bind_gradients(int64_t unit) {
  const auto& range = store_.units()[static_cast<size_t>(unit)];
  const Tensor slab = Tensor::empty({range.end - range.begin}, DType::f32, MemoryTag::gradient);
  // Operations write the gradients; the gaps between them take part in the reduction too.
  int64_t written = range.begin;
  const auto clear_up_to = [&](int64_t end) { slab.narrow(written - range.begin, end - written).fill_zero(); };
  for (const auto& p : store_.parameters()) {
    if (p.unit != unit) continue;
    clear_up_to(p.offset);
    written = p.offset + p.numel();
  }
  clear_up_to(range.end);
  store_.bind_gradients(unit, slab);
  unit_gradients_[unit] = slab;
}

void ParameterShards::begin_pass(bool training) {
  if (stage_ == 3) {
    finish_gathering(0);
    finish_gathering(last_unit());
  }
  if (stage_ < 2 || !training) return;
  bind_gradients(0);
  if (last_unit() > 0) bind_gradients(last_unit());
}

void ParameterShards::end_pass() {
  if (stage_ < 3) return;
  release(0);
  if (last_unit() > 0) release(last_unit());
}

void ParameterShards::enter(Tape& tape, int64_t unit) {
  if (stage_ < 3) return;
  finish_gathering(unit);
  start_gathering(unit + 1);
  // Recorded before the unit's operations, so run after all of them.
  tape.at_backward([this, unit] { release(unit); });
}

void ParameterShards::leave(Tape& tape, int64_t unit) {
  if (stage_ == 3) release(unit);
  if (stage_ < 2) return;
  tape.at_backward([this, unit] {
    if (stage_ == 3) {
      finish_gathering(unit);
      if (unit > 1) start_gathering(unit - 1);
    }
    bind_gradients(unit);
  });
}

}  // namespace farsight
