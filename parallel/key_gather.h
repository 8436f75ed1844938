// SPDX-License-Identifier: Apache-2.0
// Keys and values of all owners for a few key heads at a time, in two slots: the next heads arrive while the current
// ones are computed. And the way back of their gradients, summed in rank order and in fp32. Internal to parallel/.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "kernels/tensor.h"
#include "parallel/attention_shard.h"
#include "parallel/comm.h"
#include "parallel/sequence_order.h"

namespace farsight {

// How the key heads are taken in turns. Memory of a slot is [owner, B, tokens of the owner, columns of k then v].
struct KeyTurns {
  int64_t batch = 0;
  int64_t kv_heads = 0, stride = 0;  // all key heads; at most `stride` of them in one turn
  int64_t width = 0, value_width = 0;
  SequenceLayout layout;

  int64_t turns() const { return (kv_heads + stride - 1) / stride; }
  int64_t first_head(int64_t turn) const { return turn * stride; }
  int64_t heads(int64_t turn) const { return std::min(stride, kv_heads - first_head(turn)); }
  int64_t columns(int64_t turn) const { return heads(turn) * (width + value_width); }
  std::vector<int64_t> counts(int64_t turn) const;  // elements of each owner
  // The rows of one owner in a slot.
  KeyBlock block(const Tensor& slot, int64_t turn, int64_t owner) const;
};

// Two slots that are used in turns; the second is made when it is first used.
class TurnSlots {
 public:
  TurnSlots(const KeyTurns& turns, DType dtype) : turns_(turns), dtype_(dtype) {}
  Tensor slot(int64_t turn);  // [elements of the turn]

 private:
  KeyTurns turns_;
  DType dtype_;
  std::array<Tensor, 2> slots_;
};

class KeyGather {
 public:
  KeyGather(Communicator& group, const KeyTurns& turns, const Tensor& k, const Tensor& v)
      : group_(group), turns_(turns), slots_(turns, k.dtype()), k_(k), v_(v) {}
  // Starts to gather the heads of a turn, whose own block may be read at once. The turn before it may be in use.
  void start(int64_t turn);
  // Waits for the turn started last.
  void finish() { request_->wait(); }
  KeyBlock block(int64_t turn, int64_t owner) { return turns_.block(slots_.slot(turn), turn, owner); }

 private:
  Communicator& group_;
  KeyTurns turns_;
  TurnSlots slots_;
  Tensor k_, v_;
  RequestPtr request_;
};

class GradientScatter {
 public:
  // The sums are added to dk and dv, addressed like the own k and v.
  GradientScatter(Communicator& group, const KeyTurns& turns, const Tensor& dk, const Tensor& dv)
      : group_(group), turns_(turns), slots_(turns, DType::f32), dk_(dk), dv_(dv) {}
  // Zero-fills the slot of a turn. The turn before it may be on its way.
  void begin(int64_t turn) { slots_.slot(turn).fill_zero(); }
  KeyBlock block(int64_t turn, int64_t owner) { return turns_.block(slots_.slot(turn), turn, owner); }
  // Sends the turn and completes the one before it.
  void start(int64_t turn);
  // Completes the turn started last.
  void finish();

 private:
  Communicator& group_;
  KeyTurns turns_;
  TurnSlots slots_;
  Tensor dk_, dv_;
  int64_t started_ = -1;
  RequestPtr request_;
};

}  // namespace farsight
