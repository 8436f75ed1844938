// SPDX-License-Identifier: Apache-2.0
// The two streams of buffers in a ring: keys and values that move one rank per step, and their gradients one hop
// behind. Rank i works on owner (i - s) mod r at step s.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/tensor.h"
#include "parallel/comm.h"
#include "parallel/sequence_order.h"

namespace farsight {

// Rows of one owner in transit: [B * n, columns], the columns of k then those of v.
struct RingGeometry {
  int64_t batch = 0;
  int64_t columns = 0;
  int64_t hops = 0;  // transfers of keys and values
  SequenceLayout layout;

  int64_t owner(int64_t rank, int64_t step) const {
    return (rank - step % layout.owners() + layout.owners()) % layout.owners();
  }
  int64_t rows(int64_t owner) const { return batch * layout.count(owner); }
};

// Keys and values: two buffers, the block of the next step arrives while the current one is computed.
class KeyRotation {
 public:
  // Packs the own keys and values. Only for hops > 0.
  KeyRotation(Communicator& ring, const RingGeometry& geometry, const Tensor& k, const Tensor& v);
  // [B * n, columns] of the owner of the current step.
  Tensor current() const;
  // Starts the exchange that brings the next step's block, if there is one.
  void start();
  // Waits for it and makes it current.
  void finish();

 private:
  Communicator& ring_;
  RingGeometry geometry_;
  int64_t step_ = 0;
  Tensor current_, next_;
  RequestPtr exchange_;
};

// Gradients of keys and values in fp32: the sum for an owner follows its keys, one hop behind, and goes home after the
// last step. D_s = own contribution of step s + what arrived from the left neighbour: summed in hop order.
class GradientRotation {
 public:
  GradientRotation(Communicator& ring, const RingGeometry& geometry);
  // Zeroed [B * n, columns] for the contribution of this step.
  Tensor contribution();
  // Starts moving the sum of the previous step, if there is one. Before the block is computed.
  void start();
  // Adds what arrived to the contribution and moves on to the next step.
  void finish();
  // After the last step: sends the last sum to its owner and returns the own one.
  Tensor home();

 private:
  Communicator& ring_;
  RingGeometry geometry_;
  int64_t step_ = 0;
  Tensor fresh_, leaving_, arriving_;
  RequestPtr exchange_;
};

}  // namespace farsight
