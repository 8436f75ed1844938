// SPDX-License-Identifier: Apache-2.0
#include "parallel/gradients.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "kernels/error.h"
#include "kernels/gradient_norm.h"

namespace farsight {

GradientReducer::GradientReducer(ParameterStore& store, Communicator& replicas, int64_t bucket_bytes)
    : store_(store), replicas_(replicas) {
  if (!store.gradients().defined()) fail(ErrorKind::internal, "gradients: the parameters are not allocated");
  const int64_t limit = std::max<int64_t>(1, bucket_bytes / static_cast<int64_t>(sizeof(float)));
  auto& parameters = store.parameters();
  int64_t end = store.slab_elements();
  for (size_t i = parameters.size(); i-- > 0;) {
    Parameter& p = parameters[i];
    // A bucket holds whole parameters, at least one; gaps between them are zero on all ranks.
    if (buckets_.empty() || (buckets_.back().end - p.offset > limit && !buckets_.back().parameters.empty())) {
      buckets_.push_back({p.offset, end, {}, 0});
    }
    buckets_.back().begin = end = p.offset;
    buckets_.back().parameters.push_back(&p);
    bucket_of_.emplace(&p, buckets_.size() - 1);
  }
}

void GradientReducer::begin() {
  if (armed_) fail(ErrorKind::internal, "gradients: begin() without finish()");
  armed_ = true;
  next_ = 0;
  requests_.clear();
  ready_.clear();
  for (Bucket& b : buckets_) b.missing = static_cast<int64_t>(b.parameters.size());
}

void GradientReducer::ready(const Parameter& parameter) {
  if (!armed_) return;
  const auto found = bucket_of_.find(&parameter);
  if (found == bucket_of_.end()) fail(ErrorKind::internal, "gradients: unknown parameter '{}'", parameter.name);
  if (!ready_.insert(&parameter).second) {
    fail(ErrorKind::internal, "gradients: '{}' became ready twice in one backward pass", parameter.name);
  }
  --buckets_[found->second].missing;
  replicas_.progress();
  start_complete_buckets();
}

Tape::Handler GradientReducer::handler() {
  return [this](Parameter& p) { ready(p); };
}

void GradientReducer::start_complete_buckets() {
  while (next_ < buckets_.size() && buckets_[next_].missing == 0) start(buckets_[next_++]);
}

void GradientReducer::start(Bucket& bucket) {
  for (Parameter* p : bucket.parameters) p->zero_if_fresh();
  if (replicas_.size() == 1) return;
  float* slab = store_.gradients().data<float>();
  requests_.push_back(
      replicas_.all_reduce_async({slab + bucket.begin, static_cast<size_t>(bucket.end - bucket.begin)}, ReduceOp::sum));
}

ReductionStats GradientReducer::finish() {
  if (!armed_) fail(ErrorKind::internal, "gradients: finish() without begin()");
  ReductionStats stats;
  stats.buckets = bucket_count();
  stats.overlapped = static_cast<int64_t>(next_);
  const auto started = std::chrono::steady_clock::now();
  while (next_ < buckets_.size()) start(buckets_[next_++]);
  for (const auto& request : requests_) request->wait();
  stats.exposed_ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - started).count();
  requests_.clear();
  armed_ = false;
  return stats;
}

double gradient_norm(const ParameterStore& store, Mesh& mesh, std::span<const Placement> placements) {
  const auto& parameters = store.parameters();
  if (placements.empty()) return std::sqrt(sum_of_squares(store.gradients().span<float>()));
  if (placements.size() != parameters.size()) {
    fail(ErrorKind::internal, "gradient_norm: {} placements for {} parameters", placements.size(), parameters.size());
  }
  // Everything replicated: the sum is the same everywhere already, and bit-equal without a message.
  if (std::all_of(placements.begin(), placements.end(), [](const Placement& p) { return p.shard.empty(); })) {
    return std::sqrt(sum_of_squares(store.gradients().span<float>()));
  }
  double sum = 0.0;
  for (size_t i = 0; i < parameters.size(); ++i) {
    if (placements[i].frozen) continue;
    sum += norm_weight(placements[i], mesh.shape()) * sum_of_squares(parameters[i].grad.span<float>());
  }
  mesh.world().all_reduce(std::span<double>(&sum, 1), ReduceOp::sum);
  return std::sqrt(sum);
}

}  // namespace farsight
