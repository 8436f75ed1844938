// SPDX-License-Identifier: Apache-2.0
// Trainable tensors of one rank in flat slabs on its device: values, and fp32 main gradients. Parameters lie in
// registration order, so that a bucket of gradients is one contiguous range, and projections registered side by side
// (q, k, v) are one matrix for the GEMM while each keeps its own name in checkpoints.
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

// What this rank holds of a logical tensor: [first, first + shape) of the tensor of shape `global`.
struct ParameterSlice {
  Shape global, first, shape;
};
ParameterSlice whole_tensor(const Shape& shape);

struct Parameter {
  std::string name;      // global, e.g. "layers.3.attention.q.weight"
  ParameterSlice slice;  // shape of value and grad, also while they are not bound
  Tensor value;          // view into the value slab of its unit
  Tensor grad;           // view into the gradient slab of its unit; holds the sum over micro-batches
  Init init;
  bool decay = false;         // weight decay acts on it (two or more dimensions)
  double average = 0.0;       // > 0: not trained, but a running average: value += average * (grad - value)
  int64_t offset = 0;         // first element in the slabs
  int64_t unit = 0;           // ParameterStore::units()
  bool grad_written = false;  // since the gradient was bound, or ParameterStore::begin_gradients

  const Shape& shape() const { return slice.shape; }
  int64_t numel() const;
  // For an operation's backward: 0 if the gradient buffer must be overwritten, 1 if added to.
  float begin_accumulate() {
    const float beta = grad_written ? 1.0F : 0.0F;
    grad_written = true;
    return beta;
  }
  // The same for scattered additions: the buffer is zero-filled on first use.
  void zero_if_fresh();
};

// Parameters that come and go together when they are sharded between uses (a layer): one range of the slabs.
struct ParameterUnit {
  int64_t begin = 0, end = 0;  // elements, multiples of 16
};

// Which slabs are there all the time. The others are bound unit by unit by whoever shards them.
struct Residency {
  bool values = true;
  bool gradients = true;
  DType value_type = DType::f32;  // of the values that operations read; gradients are always f32
};

class ParameterStore {
 public:
  // Registers a parameter; registration order is the order in the slabs. Returns a stable reference.
  // With adjoin = true it starts exactly where the previous one ends; otherwise at a multiple of 16 elements.
  Parameter& add(std::string name, ParameterSlice slice, Init init, bool adjoin = false);
  Parameter& add(std::string name, const Shape& shape, Init init, bool adjoin = false);
  // The parameters added from here on belong to the next unit. The first unit begins by itself.
  void begin_unit();
  // Ends registration. Resident slabs are allocated (zeroed) and every value and grad bound to them.
  void allocate(Residency residency = {});
  // Values or gradients of a unit lie in `slab` [its elements] until the next call; an undefined tensor unbinds. Bound
  // gradients count as not written. Only for slabs that are not resident.
  void bind_values(int64_t unit, const Tensor& slab);
  void bind_gradients(int64_t unit, const Tensor& slab);
  // Fills every bound value from (seed, name, global flat index): layout-invariant.
  void initialize(uint64_t seed);
  // What initialize() puts into one parameter, before it is rounded to the type of the values: f32, on the host.
  static Tensor initial_values(const Parameter& parameter, uint64_t seed);
  DType value_type() const { return residency_.value_type; }

  void begin_gradients();  // before the first micro-batch of a step

  std::deque<Parameter>& parameters() { return parameters_; }
  const std::deque<Parameter>& parameters() const { return parameters_; }
  Parameter* find(const std::string& name);
  const std::vector<ParameterUnit>& units() const { return units_; }
  int64_t slab_elements() const { return size_; }   // with alignment gaps (always zero)
  int64_t parameter_count() const;                  // of this rank, without gaps
  int64_t global_count() const;                     // of the model
  const Tensor& values() const { return values_; }  // [slab_elements]; not defined() unless resident
  const Tensor& gradients() const { return gradients_; }

 private:
  void bind(const Tensor& slab, int64_t begin, const ParameterUnit& unit, Tensor Parameter::*member);

  std::deque<Parameter> parameters_;
  std::vector<ParameterUnit> units_;
  int64_t size_ = 0;
  bool allocated_ = false;
  Residency residency_;
  Tensor values_, gradients_;
};

}  // namespace farsight
