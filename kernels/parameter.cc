// SPDX-License-Identifier: Apache-2.0
#include "kernels/parameter.h"

#include <algorithm>
#include <utility>

#include "kernels/error.h"
#include "kernels/parallel_for.h"
#include "kernels/random.h"

namespace farsight {

void Parameter::zero_if_fresh() {
  if (!grad_written) {
    float* g = grad.data<float>();
    parallel_for(grad.numel(), int64_t{1} << 18,
                 [&](int64_t begin, int64_t end) { std::fill(g + begin, g + end, 0.0F); });
  }
  grad_written = true;
}

Parameter& ParameterStore::add(std::string name, Shape shape, Init init, bool adjoin) {
  if (values_.defined()) fail(ErrorKind::internal, "parameter '{}' added after allocate()", name);
  if (find(name) != nullptr) fail(ErrorKind::internal, "parameter '{}' exists already", name);
  constexpr int64_t kAlign = 16;  // 64 bytes
  if (!adjoin) size_ = (size_ + kAlign - 1) / kAlign * kAlign;
  Parameter p;
  p.name = std::move(name);
  p.init = init;
  p.decay = shape.size() >= 2;
  p.offset = size_;
  int64_t n = 1;
  for (const int64_t d : shape) n *= d;
  size_ += n;
  shapes_.push_back(std::move(shape));
  parameters_.push_back(std::move(p));
  return parameters_.back();
}

void ParameterStore::allocate() {
  values_ = Tensor::zeros({size_}, DType::f32, MemoryTag::parameter);
  gradients_ = Tensor::zeros({size_}, DType::f32, MemoryTag::gradient);
  for (size_t i = 0; i < parameters_.size(); ++i) {
    auto& p = parameters_[i];
    int64_t n = 1;
    for (const int64_t d : shapes_[i]) n *= d;
    p.value = values_.narrow(p.offset, n).view(shapes_[i]);
    p.grad = gradients_.narrow(p.offset, n).view(shapes_[i]);
  }
}

void ParameterStore::initialize(uint64_t seed) {
  for (auto& p : parameters_) {
    float* out = p.value.data<float>();
    const uint64_t key = init_key(seed, p.name);
    const Init init = p.init;
    parallel_for(p.value.numel(), 4096, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        double v = init.scale;
        if (init.kind == Init::Kind::normal) v = init.scale * normal_variate(key, static_cast<uint64_t>(i));
        if (init.kind == Init::Kind::uniform)
          v = init.scale * (2.0 * uniform_variate(key, static_cast<uint64_t>(i)) - 1.0);
        out[i] = static_cast<float>(v);
      }
    });
  }
}

void ParameterStore::begin_gradients() {
  for (auto& p : parameters_) p.grad_written = false;
}

void ParameterStore::finish_gradients() {
  for (auto& p : parameters_) p.zero_if_fresh();
}

Parameter* ParameterStore::find(const std::string& name) {
  for (auto& p : parameters_) {
    if (p.name == name) return &p;
  }
  return nullptr;
}

int64_t ParameterStore::parameter_count() const {
  int64_t n = 0;
  for (const auto& p : parameters_) n += p.value.numel();
  return n;
}

}  // namespace farsight
