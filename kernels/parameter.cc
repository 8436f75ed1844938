// SPDX-License-Identifier: Apache-2.0
#include "kernels/parameter.h"

#include <algorithm>
#include <utility>

#include "kernels/error.h"
#include "kernels/parallel_for.h"
#include "kernels/random.h"
#include "kernels/rows.h"

namespace farsight {

namespace {

constexpr int64_t kAlign = 16;  // 64 bytes

int64_t aligned(int64_t elements) { return (elements + kAlign - 1) / kAlign * kAlign; }

// Index in the logical tensor of element `local` of the slice, both row-major.
int64_t global_index(const ParameterSlice& slice, int64_t local) {
  int64_t index = 0;
  int64_t stride = 1;
  for (size_t d = slice.shape.size(); d-- > 0;) {
    index += (slice.first[d] + local % slice.shape[d]) * stride;
    local /= slice.shape[d];
    stride *= slice.global[d];
  }
  return index;
}

float initial_value(const Init& init, uint64_t key, uint64_t index) {
  double v = init.scale;
  if (init.kind == Init::Kind::normal) v = init.scale * normal_variate(key, index);
  if (init.kind == Init::Kind::uniform) v = init.scale * (2.0 * uniform_variate(key, index) - 1.0);
  return static_cast<float>(v);
}

}  // namespace

void Parameter::zero_if_fresh() {
  if (!grad_written) fill(grad, 0.0F);
  grad_written = true;
}

int64_t Parameter::numel() const { return count_of(slice.shape); }

ParameterSlice whole_tensor(const Shape& shape) { return {shape, Shape(shape.size(), 0), shape}; }

Parameter& ParameterStore::add(std::string name, const Shape& shape, Init init, bool adjoin) {
  return add(std::move(name), whole_tensor(shape), init, adjoin);
}

Parameter& ParameterStore::add(std::string name, ParameterSlice slice, Init init, bool adjoin) {
  if (allocated_) fail(ErrorKind::internal, "parameter '{}' added after allocate()", name);
  if (find(name) != nullptr) fail(ErrorKind::internal, "parameter '{}' exists already", name);
  for (size_t d = 0; d < slice.global.size(); ++d) {
    if (slice.first[d] < 0 || slice.shape[d] < 0 || slice.first[d] + slice.shape[d] > slice.global[d]) {
      fail(ErrorKind::internal, "parameter '{}': slice {} at {} is not inside {}", name, to_string(slice.shape),
           to_string(slice.first), to_string(slice.global));
    }
  }
  if (units_.empty()) units_.push_back({0, 0});
  if (!adjoin) size_ = aligned(size_);
  Parameter p;
  p.name = std::move(name);
  p.init = init;
  p.decay = slice.global.size() >= 2;
  p.offset = size_;
  p.unit = static_cast<int64_t>(units_.size()) - 1;
  p.slice = std::move(slice);
  size_ += p.numel();
  units_.back().end = aligned(size_);
  parameters_.push_back(std::move(p));
  return parameters_.back();
}

void ParameterStore::begin_unit() {
  if (units_.empty() || units_.back().begin == units_.back().end) return;
  size_ = aligned(size_);
  units_.push_back({size_, size_});
}

void ParameterStore::bind(const Tensor& slab, int64_t begin, const ParameterUnit& unit, Tensor Parameter::*member) {
  for (auto& p : parameters_) {
    if (p.offset < unit.begin || p.offset >= unit.end) continue;
    p.*member = slab.defined() ? slab.narrow(p.offset - begin, p.numel()).view(p.shape()) : Tensor();
  }
}

void ParameterStore::allocate(Residency residency) {
  size_ = aligned(size_);
  allocated_ = true;
  residency_ = residency;
  const ParameterUnit all{0, size_ + 1};
  if (residency.values) {
    values_ = Tensor::zeros({size_}, residency.value_type, MemoryTag::parameter);
    bind(values_, 0, all, &Parameter::value);
  }
  if (residency.gradients) {
    gradients_ = Tensor::zeros({size_}, DType::f32, MemoryTag::gradient);
    bind(gradients_, 0, all, &Parameter::grad);
  }
}

void ParameterStore::bind_values(int64_t unit, const Tensor& slab) {
  if (residency_.values) fail(ErrorKind::internal, "parameters: the values are resident, unit {} is not bound", unit);
  const auto& range = units_[static_cast<size_t>(unit)];
  bind(slab, range.begin, range, &Parameter::value);
}

void ParameterStore::bind_gradients(int64_t unit, const Tensor& slab) {
  if (residency_.gradients) fail(ErrorKind::internal, "parameters: the gradients are resident, not those of {}", unit);
  const auto& range = units_[static_cast<size_t>(unit)];
  bind(slab, range.begin, range, &Parameter::grad);
  for (auto& p : parameters_) {
    if (p.unit == unit) p.grad_written = false;
  }
}

Tensor ParameterStore::initial_values(const Parameter& parameter, uint64_t seed) {
  const Tensor values = Tensor::empty(parameter.shape(), DType::f32, MemoryTag::parameter, Device::cpu);
  const int64_t columns = parameter.shape().empty() ? 1 : parameter.shape().back();
  float* out = values.data<float>();
  const uint64_t key = init_key(seed, parameter.name);
  parallel_for(parameter.numel(), 4096, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end;) {
      // Elements of one row of the last dimension have consecutive global indices.
      const int64_t stop = std::min(end, (i / columns + 1) * columns);
      int64_t index = global_index(parameter.slice, i);
      for (; i < stop; ++i, ++index) out[i] = initial_value(parameter.init, key, static_cast<uint64_t>(index));
    }
  });
  return values;
}

void ParameterStore::initialize(uint64_t seed) {
  for (auto& p : parameters_) {
    if (p.value.defined()) copy_rows(initial_values(p, seed).to(p.value.device()), p.value);
  }
}

void ParameterStore::begin_gradients() {
  for (auto& p : parameters_) p.grad_written = false;
}

Parameter* ParameterStore::find(const std::string& name) {
  for (auto& p : parameters_) {
    if (p.name == name) return &p;
  }
  return nullptr;
}

int64_t ParameterStore::parameter_count() const {
  int64_t n = 0;
  for (const auto& p : parameters_) n += p.numel();
  return n;
}

int64_t ParameterStore::global_count() const {
  int64_t n = 0;
  for (const auto& p : parameters_) n += count_of(p.slice.global);
  return n;
}

}  // namespace farsight
