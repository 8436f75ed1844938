// SPDX-License-Identifier: Apache-2.0
#include "parallel/ring_rotation.h"

#include <algorithm>
#include <utility>

#include "kernels/rows.h"
#include "parallel/attention_shard.h"

namespace farsight {

namespace {

// One tag per stream. Layers and steps reuse them: messages between two ranks keep their order.
constexpr int kKeysTag = 1;
constexpr int kGradientsTag = 2;
constexpr int kHomeTag = 3;

Tensor transit_buffer(const RingGeometry& g, DType dtype) {
  return Tensor::empty({g.batch * g.layout.max_count(), g.columns}, dtype, MemoryTag::communication);
}

int neighbour(const Communicator& ring, int64_t distance) {
  const int n = ring.size();
  return static_cast<int>((ring.rank() + distance % n + n) % n);
}

// Every rank sends `distance` ranks to the right and receives from as far on the left.
RequestPtr shift(Communicator& ring, const Tensor& outgoing, int64_t distance, const Tensor& incoming, int tag) {
  using Direction = TensorTransfer::Direction;
  const TensorTransfer transfers[] = {{Direction::receive, incoming, neighbour(ring, -distance)},
                                      {Direction::send, outgoing, neighbour(ring, distance)}};
  return ring.exchange_tensors(transfers, tag);
}

}  // namespace

KeyRotation::KeyRotation(Communicator& ring, const RingGeometry& geometry, const Tensor& k, const Tensor& v)
    : ring_(ring),
      geometry_(geometry),
      current_(transit_buffer(geometry, k.dtype())),
      next_(transit_buffer(geometry, k.dtype())) {
  copy_columns(k, current_, 0);
  copy_columns(v, current_, k.cols());
}

Tensor KeyRotation::current() const { return current_.narrow(0, geometry_.rows(geometry_.owner(ring_.rank(), step_))); }

void KeyRotation::start() {
  if (step_ >= geometry_.hops) return;
  const Tensor incoming = next_.narrow(0, geometry_.rows(geometry_.owner(ring_.rank(), step_ + 1)));
  exchange_ = shift(ring_, current(), 1, incoming, kKeysTag);
}

void KeyRotation::finish() {
  if (step_ < geometry_.hops) {
    exchange_->wait();
    std::swap(current_, next_);
  }
  ++step_;
}

GradientRotation::GradientRotation(Communicator& ring, const RingGeometry& geometry)
    : ring_(ring),
      geometry_(geometry),
      fresh_(transit_buffer(geometry, DType::f32)),
      leaving_(transit_buffer(geometry, DType::f32)),
      arriving_(transit_buffer(geometry, DType::f32)) {}

Tensor GradientRotation::contribution() {
  Tensor rows = fresh_.narrow(0, geometry_.rows(geometry_.owner(ring_.rank(), step_)));
  rows.fill_zero();
  return rows;
}

void GradientRotation::start() {
  if (step_ == 0) return;
  const Tensor incoming = arriving_.narrow(0, geometry_.rows(geometry_.owner(ring_.rank(), step_)));
  const Tensor outgoing = leaving_.narrow(0, geometry_.rows(geometry_.owner(ring_.rank(), step_ - 1)));
  exchange_ = shift(ring_, outgoing, 1, incoming, kGradientsTag);
}

void GradientRotation::finish() {
  if (step_ > 0) {
    exchange_->wait();
    const int64_t rows = geometry_.rows(geometry_.owner(ring_.rank(), step_));
    add_rows(arriving_.narrow(0, rows), fresh_.narrow(0, rows));
  }
  std::swap(fresh_, leaving_);
  ++step_;
}

Tensor GradientRotation::home() {
  const Tensor incoming = arriving_.narrow(0, geometry_.rows(ring_.rank()));
  const Tensor outgoing = leaving_.narrow(0, geometry_.rows(geometry_.owner(ring_.rank(), geometry_.hops)));
  shift(ring_, outgoing, -geometry_.hops, incoming, kHomeTag)->wait();
  return incoming;
}

}  // namespace farsight
