// SPDX-License-Identifier: Apache-2.0
// Define-by-run reverse mode over coarse operations. An operation computes its output at once and records a closure
// that turns the gradient of the output into gradients of its inputs. Closures run in reverse order and are dropped as
// soon as they have run, with everything they hold.
//
// How an operation is written (see linear.cc for a short one):
//
//   Var scale(Tape& tape, const Var& x, float factor) {
//     Tensor y = ...;                                          // forward, on raw tensors
//     Var out = tape.variable(std::move(y), {x});              // needs a gradient iff an input does
//     tape.record(out, {}, [x, out, factor] {                  // not recorded when out needs no gradient
//       const Tensor& dy = out.grad();
//       Gradient dx = x.begin_gradient();                      // dx.tensor, dx.beta in {0, 1}
//       ... dx.tensor = factor * dy + dx.beta * dx.tensor ...
//     });
//     return out;
//   }
//
// Rules: a gradient buffer is written with beta (0 the first time: the buffer is uninitialised; 1 later). Parameters
// accumulate into Parameter::grad with begin_accumulate(). Names of parameters given to record() are counted, and when
// the last recorded use of a parameter has run its backward, the gradient-ready handler is called with it.
// One tape belongs to one thread.
#pragma once

#include <functional>
#include <initializer_list>
#include <map>
#include <memory>
#include <vector>

#include "kernels/offload.h"
#include "kernels/parameter.h"
#include "kernels/tensor.h"

namespace farsight {

struct Gradient {
  Tensor tensor;  // shape and row stride as asked; where to write
  float beta;     // 0: overwrite, 1: add
};

// A value on the tape with its gradient. Copies are handles to the same value.
class Var {
 public:
  Var() = default;
  bool defined() const { return node_ != nullptr; }
  const Tensor& value() const { return node_->value; }
  bool requires_grad() const { return node_ != nullptr && node_->requires_grad; }
  bool has_grad() const { return node_->has_grad; }
  // Gradient that consumers have accumulated. Error{internal} if nothing has.
  const Tensor& grad() const;
  // Buffer to write or add a contribution to. Call at most once per consumer.
  Gradient begin_gradient() const;
  // Makes `buffer` (contiguous, of this shape, owned by nobody else from now on) the gradient, so that an operation can
  // turn the gradient of its output into that of its input in place. False, and nothing happens, if a gradient has been
  // written already or must lie inside another one.
  bool adopt_gradient(const Tensor& buffer) const;
  const Shape& shape() const { return node_->shape; }  // also after drop_value
  // Frees value memory that backward does not need (the value must not be read afterwards). Of a part (split_last) the
  // handle of the whole too: its memory is free when every part has been dropped.
  void drop_value() const;

 private:
  friend class Tape;
  struct Node {
    Tensor value;
    Tensor grad;
    Shape shape;  // of both
    DType dtype = DType::f32;
    Device device = Device::cpu;
    bool requires_grad = false;
    bool has_grad = false;
    std::shared_ptr<Node> whole;  // split_last: grad is the columns from `first_column` on of this node's grad
    int64_t first_column = 0;
    Tensor& gradient_buffer();  // allocated on first use
  };
  std::shared_ptr<Node> node_;
};

// Hands a finished contiguous tensor over as the gradient of x (adopt_gradient), or adds it to what is there. Nothing
// where x needs no gradient.
void give_gradient(const Var& x, const Tensor& gradient);

class Tape {
 public:
  using Handler = std::function<void(Parameter&)>;

  explicit Tape(bool recording = true) : recording_(recording) {}
  Tape(const Tape&) = delete;
  Tape& operator=(const Tape&) = delete;

  // A value from outside.
  Var input(Tensor value, bool requires_grad = false);
  // An operation's output: requires a gradient iff recording and (any input does or it uses trainable parameters).
  Var variable(Tensor value, std::initializer_list<Var> inputs, bool uses_parameters = false);
  // Records backward for `out`; skipped if out requires no gradient. A backward whose out never got a gradient is
  // skipped too (its parameters are still reported as ready).
  void record(const Var& out, std::vector<Parameter*> parameters, std::function<void()> backward);
  // The same for operations with several outputs: runs if any has a gradient; missing ones are zero-filled first.
  void record(const std::vector<Var>& outs, std::vector<Parameter*> parameters, std::function<void()> backward);

  // Runs `action` during backward, after everything recorded later and before everything recorded earlier; for what
  // comes and goes with a part of the model. Ignored without recording.
  void at_backward(std::function<void()> action);

  // The columns [begin, begin + count) of the last dimension as a value of its own; shares memory with x, and its
  // gradient is that part of the gradient of x. All parts together must cover x, and x must have no other consumer.
  std::vector<Var> split_last(const Var& x, const std::vector<int64_t>& sizes);

  // Runs segment(tape, inputs) without recording and repeats it, recorded, during backward: memory of the segment is
  // that of its inputs and outputs. The segment must be a pure function of inputs, parameters and counter-based draws,
  // and return none of its inputs and no value twice (Error{internal}).
  using Segment = std::function<std::vector<Var>(Tape&, const std::vector<Var>&)>;
  std::vector<Var> recompute(const std::vector<Var>& inputs, Segment segment);
  // From now on the inputs of recomputed segments wait for backward with `offload` (null: where they are). It must
  // outlive the tape.
  void set_offload(ActivationOffload* offload) { offload_ = offload; }

  // Called during backward() with each parameter whose gradient is complete on this tape.
  void on_gradient_ready(Handler handler) { handler_ = std::move(handler); }

  // Runs everything recorded, last first, and empties the tape. `root` must be a one-element tensor; its gradient is
  // `seed`.
  void backward(const Var& root, float seed = 1.0F);
  bool recording() const { return recording_; }

 private:
  struct Entry {
    std::vector<Var> outs;
    std::vector<Parameter*> parameters;
    std::function<void()> backward;
    bool always = false;  // has no outputs: runs whatever has a gradient
  };
  void use(Parameter* parameter);
  void done(Parameter* parameter);
  void run_entries();

  bool recording_;
  bool collecting_ = false;  // first pass of recompute: collect parameters, record nothing
  std::vector<Entry> entries_;
  std::map<Parameter*, int> pending_;  // recorded uses whose backward has not run
  Handler handler_;
  ActivationOffload* offload_ = nullptr;
};

}  // namespace farsight
