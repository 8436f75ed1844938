// SPDX-License-Identifier: Apache-2.0
#include "kernels/reshape.h"

#include <utility>

namespace farsight {

Var reshape(Tape& tape, const Var& x, Shape shape) {
  const Var out = tape.variable(x.value().view(std::move(shape)), {x});
  tape.record(out, {}, [x, out] { give_gradient(x, out.grad().view(x.shape())); });
  return out;
}

}  // namespace farsight
