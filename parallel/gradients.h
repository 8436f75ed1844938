// SPDX-License-Identifier: Apache-2.0
// Sums the gradients over the ranks that share the parameters, while backward still runs. A bucket starts when all its
// parameters are complete and every bucket before it has started, so that all ranks issue the same sequence. Gradients
// are plain sums: the loss carries 1/N.
//
//   reducer.begin_step();                               // before the first micro-batch
//   for (each micro-batch) {
//     reducer.begin(last);                              // stages 0 and 1 reduce in the last one only
//     tape.on_gradient_ready(reducer.handler());
//     tape.backward(loss);
//     reducer.finish();
//   }
//   add_gradient_squares(shards, total);
//
// A bucket passes these stations, each on communicators on which all ranks keep one order of buckets:
//   inner   parameters whose gradient is also partial inside the tensor group: sum over those ranks, packed
//   outer   stage 0: all-reduce over dp_cp; else reduce-scatter over the ZeRO group
//   groups  ZeRO in groups: all-reduce of the own shard over the groups
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <span>
#include <vector>

#include "kernels/parameter.h"
#include "kernels/tape.h"
#include "parallel/comm.h"
#include "parallel/parameter_shards.h"

namespace farsight {

struct ReductionStats {
  int64_t buckets = 0;
  int64_t overlapped = 0;  // started before finish()
};

class GradientReducer {
 public:
  // `shards` must outlive the reducer.
  explicit GradientReducer(ParameterShards& shards);

  // Gradients of the step start from nothing.
  void begin_step();
  // Arms the reducer for one backward pass. last: of the step. Where gradients stay here (stages 0 and 1) nothing is
  // reduced before the last pass.
  void begin(bool last);
  void ready(const Parameter& parameter);
  Tape::Handler handler();
  // Starts the buckets that are left (parameters without a gradient count as zero) and waits for all.
  ReductionStats finish();

  int64_t bucket_count() const { return static_cast<int64_t>(shards_.buckets().size()); }

 private:
  enum class Station : uint8_t { waiting, inner, outer, groups, done };
  struct InnerSum {  // the packed ranges of one axis set
    AxisSet axes;
    Tensor packed;
    RequestPtr request;
  };
  struct Progress {
    Station station = Station::waiting;
    int64_t missing = 0;
    std::vector<InnerSum> inner;
    Tensor slab;     // gradients of the bucket's unit (stages 2 and 3)
    Tensor arrived;  // own shard of this pass, when it is added to earlier ones
    RequestPtr request;
  };
  bool reduces() const { return last_ || shards_.stage() >= 2; }
  // The gradients of a range of the bucket.
  Tensor gradient(const Progress& progress, const GradientBucket& bucket, const SlabRange& range) const;
  void start(size_t index);
  void start_complete_buckets();
  void advance();
  // How far advance() may move a bucket whose transfers go between devices.
  Station device_limit(size_t index) const;
  void drain();
  void move(size_t index, Station limit, bool wait);
  bool finished(Progress& progress, bool wait) const;
  void start_outer(size_t index);
  void start_groups(size_t index);
  void settle(size_t index);

  ParameterShards& shards_;
  std::map<const Parameter*, size_t> bucket_of_;
  std::map<int64_t, int64_t> buckets_of_unit_;
  std::map<int64_t, int64_t> unit_missing_;  // buckets of a unit that have not started
  std::vector<Progress> progress_;
  std::set<const Parameter*> ready_;
  size_t next_ = 0;
  size_t settled_ = 0;
  bool armed_ = false, last_ = false, first_ = true;
};

// totals.narrow(i, 1) of the `totals` [n] f64 for i < n - 1: sums that every rank holds a part of. The last one becomes
// the sum of squares of the whole gradient, each logical element once (its square root is the norm). On return, all
// are the sums over the world, where this thread computes, with equal bits on every rank. The host does not wait unless
// tensors travel through it. Call after the reduction; collective over the world.
void finish_totals(const ParameterShards& shards, const Tensor& totals);

}  // namespace farsight
