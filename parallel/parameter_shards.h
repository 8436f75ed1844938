// SPDX-License-Identifier: Apache-2.0
// ZeRO: which part of parameters, gradients and optimizer state this rank keeps, and how the rest comes and goes.
//   stage 0  everything here
//   stage 1  optimizer state of the own shards only; updated values are gathered after each step
//   stage 2  gradients too: those of a unit (a layer) live while its backward runs, then only the own shards stay
//   stage 3  values too: a unit is gathered before its forward and its backward and released behind them, the next one
//            is on its way meanwhile
// Shards are ranges of the buckets in which gradients are reduced, over the ranks of the `zero` axis. The first and the
// last unit (embedding; final norm and head) are there for the whole pass, because a tied embedding is used at its both
// ends.
//
// In mixed precision (value_type bf16) operations read bf16 values, and the own shards have fp32 master values beside
// them, which the optimizer updates and checkpoints hold.
//
// Source: Rajbhandari et al. 2020 (arXiv:1910.02054), Micikevicius et al. 2018 (arXiv:1710.03740); parallelism
// specification, section 16.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "kernels/parameter.h"
#include "kernels/tape.h"
#include "parallel/bucket_plan.h"
#include "parallel/mesh.h"
#include "parallel/placement.h"

namespace farsight {

// A range of the slab that this rank updates, and where it lies in arrays that hold only such ranges.
struct StatePiece {
  SlabRange range;
  int64_t packed = 0;
};

class ParameterShards {
 public:
  // Allocates `store`, whose registration must have ended. Not collective. All arguments outlive the object; one
  // placement per parameter. stage in [0, 3]. value_type: what operations read, f32 or bf16.
  ParameterShards(ParameterStore& store, Mesh& mesh, std::span<const Placement> placements, int64_t stage,
                  int64_t bucket_bytes, DType value_type = DType::f32);

  ParameterStore& store() const { return store_; }
  Mesh& mesh() const { return mesh_; }
  std::span<const Placement> placements() const { return placements_; }
  int64_t stage() const { return stage_; }
  const std::vector<GradientBucket>& buckets() const { return buckets_; }
  const std::vector<StatePiece>& pieces() const { return pieces_; }
  int64_t packed_elements() const { return packed_elements_; }
  // Axes over which the ranks hold the same of a parameter's state (what pieces() says): those without zero.
  AxisSet state_replicas(size_t parameter) const;

  // Where the values and gradients of a piece are, f32 [its elements]; gradients after the reduction. In mixed
  // precision these are the master values.
  Tensor values(const StatePiece& piece) const;
  // In mixed precision: the bf16 copy of values(piece) that operations read. Not defined() otherwise.
  Tensor rounded(const StatePiece& piece) const;
  bool has_masters() const { return masters_.defined(); }
  Tensor gradients(const StatePiece& piece) const;
  // Stages 2 and 3: gradients of the whole unit while they live (undefined otherwise), and their end.
  Tensor unit_gradients(int64_t unit) const;
  void drop_unit_gradients(int64_t unit);

  // Initial values, everywhere alike. Not collective.
  void initialize(uint64_t seed);
  // After a change of values(): the bf16 copies of the own pieces follow. The optimizer writes both and has no need of
  // it. Not collective.
  void round_values();
  // After an update or a load: every rank gets what operations read of all shards (stages 1 and 2). Collective over
  // `zero`.
  void gather_values();

  // Frame of one forward (and with `training` backward) pass: the first and the last unit are there in between.
  // Collective at stage 3.
  void begin_pass(bool training);
  void end_pass();
  // Around the operations of a unit in between, forward; their counterparts in backward are recorded on the tape.
  // Collective at stage 3, forward and backward. Nothing happens at stages 0 and 1.
  void enter(Tape& tape, int64_t unit);
  void leave(Tape& tape, int64_t unit);

 private:
  struct Gathering {
    Tensor slab;
    std::vector<RequestPtr> requests;
  };
  void start_gathering(int64_t unit);
  void finish_gathering(int64_t unit);
  void cut_pieces();
  Tensor computed(const StatePiece& piece) const;
  void release(int64_t unit);
  void bind_gradients(int64_t unit);
  int64_t last_unit() const { return static_cast<int64_t>(store_.units().size()) - 1; }

  ParameterStore& store_;
  Mesh& mesh_;
  std::span<const Placement> placements_;
  int64_t stage_;
  std::vector<GradientBucket> buckets_;
  std::vector<StatePiece> pieces_;
  int64_t packed_elements_ = 0;
  Tensor masters_;                            // mixed precision, packed
  Tensor packed_values_, packed_gradients_;   // stage 3; stages 2 and 3
  std::map<int64_t, Gathering> gathered_;     // units whose values are here or on their way
  std::map<int64_t, Tensor> unit_gradients_;  // stages 2 and 3
};

}  // namespace farsight
