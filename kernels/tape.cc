// SPDX-License-Identifier: Apache-2.0
#include "kernels/tape.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "kernels/error.h"
#include "kernels/rows.h"

namespace farsight {

const Tensor& Var::grad() const {
  if (!node_->has_grad)
    fail(ErrorKind::internal, "tape: gradient of {} read before it was written", to_string(node_->value.shape()));
  return node_->grad;
}

Tensor& Var::Node::gradient_buffer() {
  if (grad.defined()) return grad;
  grad = whole ? whole->gradient_buffer().narrow_last(first_column, shape.back())
               : Tensor::empty(shape, dtype, MemoryTag::activation, device);
  return grad;
}

Gradient Var::begin_gradient() const {
  const float beta = node_->has_grad ? 1.0F : 0.0F;
  node_->has_grad = true;
  return {node_->gradient_buffer(), beta};
}

bool Var::adopt_gradient(const Tensor& buffer) const {
  if (node_->grad.defined() || node_->whole || !buffer.contiguous()) return false;
  expect_shape("adopt_gradient", "buffer", buffer, node_->shape);
  node_->grad = buffer;
  node_->has_grad = true;
  return true;
}

void give_gradient(const Var& x, const Tensor& gradient) {
  if (!x.requires_grad() || x.adopt_gradient(gradient)) return;
  const Gradient target = x.begin_gradient();
  target.beta != 0.0F ? add_rows(gradient, target.tensor) : copy_rows(gradient, target.tensor);
}

Var Tape::input(Tensor value, bool requires_grad) {
  Var v;
  v.node_ = std::make_shared<Var::Node>();
  v.node_->shape = value.shape();
  v.node_->dtype = value.dtype();
  v.node_->device = value.device();
  v.node_->value = std::move(value);
  v.node_->requires_grad = requires_grad;
  return v;
}

Var Tape::variable(Tensor value, std::initializer_list<Var> inputs, bool uses_parameters) {
  const bool any = std::any_of(inputs.begin(), inputs.end(), [](const Var& v) { return v.requires_grad(); });
  return input(std::move(value), recording_ && (any || uses_parameters));
}

void Tape::record(const Var& out, std::vector<Parameter*> parameters, std::function<void()> backward) {
  record(std::vector<Var>{out}, std::move(parameters), std::move(backward));
}

void Tape::record(const std::vector<Var>& outs, std::vector<Parameter*> parameters, std::function<void()> backward) {
  std::erase(parameters, nullptr);
  if (collecting_) {
    for (auto* p : parameters) use(p);
    return;
  }
  if (std::none_of(outs.begin(), outs.end(), [](const Var& v) { return v.requires_grad(); })) return;
  for (auto* p : parameters) use(p);
  entries_.push_back({outs, std::move(parameters), std::move(backward)});
}

void Tape::at_backward(std::function<void()> action) {
  if (recording_) entries_.push_back({{}, {}, std::move(action), /*always=*/true});
}

void Tape::use(Parameter* parameter) { ++pending_[parameter]; }

void Tape::done(Parameter* parameter) {
  const auto found = pending_.find(parameter);
  if (--found->second > 0) return;
  pending_.erase(found);
  if (handler_) handler_(*parameter);
}

void Var::drop_value() const {
  for (Node* node = node_.get(); node != nullptr; node = node->whole.get()) node->value = Tensor();
}

std::vector<Var> Tape::split_last(const Var& x, const std::vector<int64_t>& sizes) {
  if (std::accumulate(sizes.begin(), sizes.end(), int64_t{0}) != x.value().cols()) {
    fail(ErrorKind::internal, "split_last: sizes do not cover {}", to_string(x.value().shape()));
  }
  std::vector<Var> parts;
  int64_t begin = 0;
  for (const int64_t size : sizes) {
    Var part = input(x.value().narrow_last(begin, size), x.requires_grad());
    if (x.requires_grad()) {
      part.node_->whole = x.node_;
      part.node_->first_column = begin;
    }
    parts.push_back(part);
    begin += size;
  }
  record(parts, {}, [x] { x.node_->has_grad = true; });
  return parts;
}

std::vector<Var> Tape::recompute(const std::vector<Var>& inputs, Segment segment) {
  Tape first(/*recording=*/false);
  first.collecting_ = true;
  std::vector<Var> detached;
  for (const auto& v : inputs) detached.push_back(first.input(v.value()));
  const std::vector<Var> results = segment(first, detached);
  std::vector<Var> outs;
  for (const auto& r : results) {
    for (const auto& d : detached) {
      if (r.node_ == d.node_) fail(ErrorKind::internal, "recompute: the segment returns one of its inputs");
    }
    if (std::count_if(results.begin(), results.end(), [&](const Var& v) { return v.node_ == r.node_; }) > 1) {
      fail(ErrorKind::internal, "recompute: the segment returns one value twice");
    }
    outs.push_back(input(r.value(), recording_));
  }
  std::vector<Parameter*> parameters;
  for (const auto& [p, uses] : first.pending_) parameters.push_back(p);
  if (!recording_ || collecting_) {
    record(outs, parameters, {});
    return outs;
  }
  std::vector<ParkedTensor> parked;
  for (const auto& v : inputs) {
    if (offload_ == nullptr) break;
    parked.push_back(offload_->park(v.value()));
    v.drop_value();
  }
  record(outs, parameters, [inputs, outs, parked, offload = offload_, segment = std::move(segment)] {
    for (size_t i = parked.size(); i-- > 0;) inputs[i].node_->value = offload->fetch(parked[i]);
    Tape again;
    std::vector<Var> fresh;
    for (const auto& v : inputs) fresh.push_back(again.input(v.value(), v.requires_grad()));
    // Contributions go straight into the gradients of the real inputs.
    for (size_t i = 0; i < inputs.size(); ++i) {
      fresh[i].node_->whole = inputs[i].node_->whole;
      fresh[i].node_->first_column = inputs[i].node_->first_column;
      fresh[i].node_->grad = inputs[i].node_->grad;
      fresh[i].node_->has_grad = inputs[i].node_->has_grad;
    }
    const auto repeated = segment(again, fresh);
    for (size_t i = 0; i < outs.size(); ++i) {
      repeated[i].node_->grad = outs[i].node_->grad;
      repeated[i].node_->has_grad = outs[i].node_->has_grad;
    }
    again.run_entries();
    for (size_t i = 0; i < inputs.size(); ++i) {
      inputs[i].node_->grad = fresh[i].node_->grad;
      inputs[i].node_->has_grad = fresh[i].node_->has_grad;
    }
  });
  return outs;
}

void Tape::run_entries() {
  while (!entries_.empty()) {
    Entry entry = std::move(entries_.back());
    entries_.pop_back();
    const bool any =
        entry.always || std::any_of(entry.outs.begin(), entry.outs.end(), [](const Var& v) { return v.has_grad(); });
    if (any) {
      for (const auto& out : entry.outs) {
        if (out.requires_grad() && !out.has_grad()) out.begin_gradient().tensor.fill_zero();
      }
      entry.backward();
    }
    for (auto* p : entry.parameters) done(p);
    // Both ends of the operation are dead now: free what later closures cannot read.
    for (const auto& out : entry.outs) out.node_->grad = Tensor();
    for (const auto& out : entry.outs) out.node_->value = Tensor();
  }
}

void Tape::backward(const Var& root, float seed) {
  if (root.value().numel() != 1)
    fail(ErrorKind::internal, "backward: root has shape {}", to_string(root.value().shape()));
  if (!root.requires_grad()) {
    run_entries();  // nothing has a gradient: only reports the parameters
    return;
  }
  const Tensor value = root.value();
  fill(root.begin_gradient().tensor, seed);
  run_entries();
  root.node_->value = value;  // the caller still reads the loss
}

}  // namespace farsight
