// SPDX-License-Identifier: Apache-2.0
// Trainable tensors of one rank in flat slabs: values, and fp32 main gradients. Parameters lie in registration order,
// so that a bucket of gradients is one contiguous range, and projections registered side by side (q, k, v) are one
// matrix for the GEMM while each keeps its own name in checkpoints.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "kernels/tensor.h"

namespace farsight {

// How a parameter starts. normal: mean 0, standard deviation `scale`; constant: every element `scale`.
struct Init {
  enum class Kind : uint8_t { normal, uniform, constant } kind = Kind::constant;
  double scale = 0.0;  // normal: sigma; uniform: half width; constant: the value
};

struct Parameter {
  std::string name;  // global, e.g. "layers.3.attention.q.weight"
  Tensor value;      // view into the value slab
  Tensor grad;       // view into the gradient slab; holds the sum over micro-batches
  Init init;
  bool decay = false;         // weight decay acts on it (two or more dimensions)
  int64_t offset = 0;         // first element in the slabs
  bool grad_written = false;  // since ParameterStore::begin_gradients

  // For an operation's backward: 0 if the gradient buffer must be overwritten, 1 if added to.
  float begin_accumulate() {
    const float beta = grad_written ? 1.0F : 0.0F;
    grad_written = true;
    return beta;
  }
  // The same for scattered additions: the buffer is zero-filled on first use.
  void zero_if_fresh();
};

class ParameterStore {
 public:
  // Registers a parameter; registration order is the order in the slabs. Returns a stable reference.
  // With adjoin = true it starts exactly where the previous one ends; otherwise at a multiple of 16 elements.
  Parameter& add(std::string name, Shape shape, Init init, bool adjoin = false);
  // Allocates the slabs (zeroed) and binds every value and grad. Call once, after the last add.
  void allocate();
  // Fills every value from (seed, name, global flat index): layout-invariant.
  void initialize(uint64_t seed);

  void begin_gradients();   // before the first micro-batch of a step
  void finish_gradients();  // zero-fills gradients that no operation wrote

  std::deque<Parameter>& parameters() { return parameters_; }
  const std::deque<Parameter>& parameters() const { return parameters_; }
  Parameter* find(const std::string& name);
  int64_t slab_elements() const { return size_; }   // with alignment gaps (always zero)
  int64_t parameter_count() const;                  // without
  const Tensor& values() const { return values_; }  // [slab_elements] fp32
  const Tensor& gradients() const { return gradients_; }

 private:
  std::deque<Parameter> parameters_;
  std::vector<Shape> shapes_;
  int64_t size_ = 0;
  Tensor values_, gradients_;
};

}  // namespace farsight
