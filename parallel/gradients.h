// SPDX-License-Identifier: Apache-2.0
// Sums the gradients over the ranks that share the parameters, while backward still runs. The gradient slab is cut into
// buckets in reverse registration order; a bucket starts when all its parameters are complete and every bucket before
// it has started, so that all ranks issue the same sequence. Gradients are plain sums: the loss carries 1/N.
//
//   reducer.begin();                                   // before the backward of the last micro-batch
//   tape.on_gradient_ready(reducer.handler());
//   tape.backward(loss);
//   const ReductionStats stats = reducer.finish();     // slab complete on return
//   const double norm = gradient_norm(store, mesh);
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <span>
#include <vector>

#include "kernels/parameter.h"
#include "kernels/tape.h"
#include "parallel/comm.h"
#include "parallel/mesh.h"
#include "parallel/placement.h"

namespace farsight {

struct ReductionStats {
  int64_t buckets = 0;
  int64_t overlapped = 0;   // started before finish()
  double exposed_ms = 0.0;  // time finish() had to wait
};

class GradientReducer {
 public:
  // Sums over `replicas` (dp_cp). Both must outlive the reducer; `store` must be allocated. bucket_bytes >= 4.
  GradientReducer(ParameterStore& store, Communicator& replicas, int64_t bucket_bytes = int64_t{32} << 20);

  // Arms the reducer for one backward pass. Without it ready() is ignored: earlier micro-batches only accumulate.
  void begin();
  void ready(const Parameter& parameter);
  Tape::Handler handler();
  // Starts the buckets that are left (parameters without a gradient count as zero) and waits for all.
  ReductionStats finish();

  int64_t bucket_count() const { return static_cast<int64_t>(buckets_.size()); }

 private:
  struct Bucket {
    int64_t begin = 0, end = 0;  // elements of the slab
    std::vector<Parameter*> parameters;
    int64_t missing = 0;
  };
  void start_complete_buckets();
  void start(Bucket& bucket);

  ParameterStore& store_;
  Communicator& replicas_;
  std::vector<Bucket> buckets_;
  std::map<const Parameter*, size_t> bucket_of_;
  std::set<const Parameter*> ready_;
  std::vector<RequestPtr> requests_;
  size_t next_ = 0;
  bool armed_ = false;
};

// Euclidean norm of the whole gradient, each logical element once, fp64, independent of the thread count. Call after
// the reduction; collective over the world only when a placement needs it. `placements` empty: all replicated.
double gradient_norm(const ParameterStore& store, Mesh& mesh, std::span<const Placement> placements = {});

}  // namespace farsight
