// SPDX-License-Identifier: Apache-2.0
#include "parallel/gradients.h"

#include <algorithm>

#include "kernels/error.h"
#include "kernels/rows.h"
#include "kernels/totals.h"

namespace farsight {
namespace {

int64_t total(const std::vector<SlabRange>& ranges) {
  int64_t sum = 0;
  for (const auto& range : ranges) sum += range.count();
  return sum;
}

}  // namespace

GradientReducer::GradientReducer(ParameterShards& shards) : shards_(shards) {
  const auto& buckets = shards.buckets();
  for (size_t b = 0; b < buckets.size(); ++b) {
    for (const Parameter* p : buckets[b].parameters) bucket_of_.emplace(p, b);
    ++buckets_of_unit_[buckets[b].unit];
  }
}

void GradientReducer::begin_step() {
  shards_.store().begin_gradients();
  first_ = true;
}

void GradientReducer::begin(bool last) {
  if (armed_) fail(ErrorKind::internal, "gradients: begin() without finish()");
  armed_ = true;
  last_ = last;
  next_ = settled_ = 0;
  ready_.clear();
  progress_.clear();
  progress_.resize(shards_.buckets().size());
  unit_missing_ = buckets_of_unit_;
  for (size_t b = 0; b < progress_.size(); ++b) {
    progress_[b].missing = static_cast<int64_t>(shards_.buckets()[b].parameters.size());
  }
}

void GradientReducer::ready(const Parameter& parameter) {
  if (!armed_ || !reduces()) return;
  const auto found = bucket_of_.find(&parameter);
  if (found == bucket_of_.end()) fail(ErrorKind::internal, "gradients: unknown parameter '{}'", parameter.name);
  if (!ready_.insert(&parameter).second) {
    fail(ErrorKind::internal, "gradients: '{}' became ready twice in one backward pass", parameter.name);
  }
  --progress_[found->second].missing;
  shards_.mesh().world().progress();
  start_complete_buckets();
  advance();
}

Tape::Handler GradientReducer::handler() {
  return [this](Parameter& p) { ready(p); };
}

void GradientReducer::start_complete_buckets() {
  while (next_ < progress_.size() && progress_[next_].missing == 0) start(next_++);
}

Tensor GradientReducer::gradient(const Progress& progress, const GradientBucket& bucket, const SlabRange& range) const {
  if (shards_.stage() < 2) return shards_.store().gradients().narrow(range.begin, range.count());
  const int64_t first = shards_.store().units()[static_cast<size_t>(bucket.unit)].begin;
  return progress.slab.narrow(range.begin - first, range.count());
}

void GradientReducer::start(size_t index) {
  const GradientBucket& bucket = shards_.buckets()[index];
  Progress& progress = progress_[index];
  for (Parameter* p : bucket.parameters) p->zero_if_fresh();
  if (shards_.stage() >= 2) {
    progress.slab = shards_.unit_gradients(bucket.unit);
    if (--unit_missing_[bucket.unit] == 0) shards_.drop_unit_gradients(bucket.unit);
  }
  for (const auto& [axes, ranges] : bucket.inner) {
    InnerSum sum{axes, Tensor::empty({total(ranges)}, DType::f32, MemoryTag::communication), nullptr};
    int64_t at = 0;
    for (const auto& range : ranges) {
      copy_rows(gradient(progress, bucket, range), sum.packed.narrow(at, range.count()));
      at += range.count();
    }
    sum.request = shards_.mesh().communicator(axes).all_reduce_tensor(sum.packed, ReduceOp::sum);
    progress.inner.push_back(std::move(sum));
  }
  progress.station = Station::inner;
}

// Everything that the bucket's current station has under way.
bool GradientReducer::finished(Progress& progress, bool wait) const {
  const auto done = [wait](const RequestPtr& request) {
    if (!request) return true;
    if (wait) request->wait();
    return request->test();
  };
  return std::all_of(progress.inner.begin(), progress.inner.end(),
                     [&](const InnerSum& s) { return done(s.request); }) &&
         done(progress.request);
}

void GradientReducer::start_outer(size_t index) {
  const GradientBucket& bucket = shards_.buckets()[index];
  Progress& progress = progress_[index];
  for (auto& sum : progress.inner) {
    sum.request.reset();
    int64_t at = 0;
    for (const auto& range : bucket.inner.at(sum.axes)) {
      copy_rows(sum.packed.narrow(at, range.count()), gradient(progress, bucket, range));
      at += range.count();
    }
  }
  progress.inner.clear();
  const Tensor all = gradient(progress, bucket, bucket.range);
  Mesh& mesh = shards_.mesh();
  if (shards_.stage() == 0) {
    Communicator& replicas = mesh.gradients(kDataContextAxes);
    if (replicas.size() > 1) progress.request = replicas.all_reduce_tensor(all, ReduceOp::sum);
    return;
  }
  Tensor own = shards_.gradients(shards_.pieces()[index]);
  if (shards_.stage() >= 2 && !first_) {
    progress.arrived = Tensor::empty({own.numel()}, DType::f32, MemoryTag::communication);
    own = progress.arrived;
  }
  Communicator& zero = mesh.gradients({Axis::zero});
  progress.request = zero.reduce_scatter_tensor(all, own, shard_counts(bucket.range, zero.size()), ReduceOp::sum);
}

void GradientReducer::start_groups(size_t index) {
  Progress& progress = progress_[index];
  progress.request.reset();
  progress.slab = Tensor();
  if (shards_.stage() == 0) return;
  Communicator& groups = shards_.mesh().gradients({Axis::zrep});
  if (groups.size() == 1) return;
  const Tensor own = progress.arrived.defined() ? progress.arrived : shards_.gradients(shards_.pieces()[index]);
  progress.request = groups.all_reduce_tensor(own, ReduceOp::sum);
}

void GradientReducer::settle(size_t index) {
  Progress& progress = progress_[index];
  progress.request.reset();
  if (!progress.arrived.defined()) return;
  add_rows(progress.arrived, shards_.gradients(shards_.pieces()[index]));
  progress.arrived = Tensor();
}

// Moves a bucket on as far as `limit` and its transfers allow.
void GradientReducer::move(size_t index, Station limit, bool wait) {
  Progress& progress = progress_[index];
  while (progress.station < limit && finished(progress, wait)) {
    progress.station = static_cast<Station>(static_cast<int>(progress.station) + 1);
    if (progress.station == Station::outer) start_outer(index);
    if (progress.station == Station::groups) start_groups(index);
    if (progress.station == Station::done) settle(index);
  }
}

// A bucket enters a station only after all before it have: one order on all ranks.
void GradientReducer::advance() {
  const bool on_device = current_device() == Device::cuda;
  Station limit = Station::done;
  for (size_t b = settled_; b < next_; ++b) {
    if (on_device) {
      limit = std::min(limit, device_limit(b));
      move(b, limit, /*wait=*/true);
    } else {
      move(b, limit, /*wait=*/false);
    }
    limit = std::min(limit, progress_[b].station);
    if (b == settled_ && limit == Station::done) ++settled_;
  }
}

// Transfers between devices finish at another time on every rank, so they must not decide what is started next. The
// buckets that were started since decide: each moves this one on by a station. To wait then costs the host nothing, and
// the device only what has not arrived while it computed the later buckets.
GradientReducer::Station GradientReducer::device_limit(size_t index) const {
  const size_t later = next_ - 1 - index;
  if (later == 0) return progress_[index].inner.empty() ? Station::outer : Station::inner;
  if (later == 1) return Station::outer;
  return later == 2 ? Station::groups : Station::done;
}

// All buckets reach a station before any waits in it: their transfers overlap.
void GradientReducer::drain() {
  for (const Station station : {Station::outer, Station::groups, Station::done}) {
    for (size_t b = settled_; b < progress_.size(); ++b) move(b, station, /*wait=*/true);
  }
}

ReductionStats GradientReducer::finish() {
  if (!armed_) fail(ErrorKind::internal, "gradients: finish() without begin()");
  ReductionStats stats;
  stats.buckets = bucket_count();
  stats.overlapped = static_cast<int64_t>(next_);
  if (reduces()) {
    while (next_ < progress_.size()) start(next_++);
    drain();
  }
  first_ = false;
  armed_ = false;
  return stats;
}

namespace {

// Squares of all gradients of the slab but those of running averages, which are no gradients.
void add_slab_squares(const ParameterStore& store, const Tensor& squares) {
  int64_t begin = 0;
  const auto add_up_to = [&](int64_t end) {
    if (begin < end) add_squares(store.gradients().narrow(begin, end - begin), 1.0, squares);
  };
  for (const Parameter& p : store.parameters()) {
    if (p.average <= 0.0) continue;
    add_up_to(p.offset);
    begin = p.offset + p.numel();
  }
  add_up_to(store.slab_elements());
}

}  // namespace

void finish_totals(const ParameterShards& shards, const Tensor& totals) {
  const MeshShape& mesh = shards.mesh().shape();
  Communicator& world = shards.mesh().world();
  const Tensor sums = totals.narrow(0, totals.numel() - 1), squares = totals.narrow(totals.numel() - 1, 1);
  squares.fill_zero();
  // Everything replicated: the sum is the same everywhere already, and bit-equal without a message.
  const bool whole = shards.stage() == 0 && mesh.extent(Axis::tp) == 1 && mesh.extent(Axis::pp) == 1;
  if (whole) {
    add_slab_squares(shards.store(), squares);
    world.all_reduce_now(sums, ReduceOp::sum);
    return;
  }
  const auto& parameters = shards.store().parameters();
  for (size_t i = 0; i < parameters.size(); ++i) {
    if (shards.placements()[i].frozen || parameters[i].average > 0.0) continue;
    const double weight = 1.0 / static_cast<double>(mesh.extent(shards.state_replicas(i)));
    const SlabRange own{parameters[i].offset, parameters[i].offset + parameters[i].numel()};
    for (const StatePiece& piece : shards.pieces()) {
      const int64_t begin = std::max(own.begin, piece.range.begin);
      const int64_t end = std::min(own.end, piece.range.end);
      if (begin >= end) continue;
      add_squares(shards.gradients(piece).narrow(begin - piece.range.begin, end - begin), weight, squares);
    }
  }
  world.all_reduce_now(totals, ReduceOp::sum);
}

}  // namespace farsight
