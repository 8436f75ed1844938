// SPDX-License-Identifier: Apache-2.0
#include "kernels/concat.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "kernels/error.h"
#include "kernels/reshape.h"
#include "kernels/rows.h"

namespace farsight {
namespace {

Shape joined_shape(std::span<const Var> parts) {
  if (parts.empty() || parts.front().shape().empty()) fail(ErrorKind::internal, "concat_last: nothing to join");
  Shape shape = parts.front().shape();
  shape.back() = 0;
  for (const Var& part : parts) {
    expect_together("concat_last", {&parts.front().value(), &part.value()});
    const Shape& own = part.shape();
    if (own.size() != shape.size() || !std::equal(own.begin(), own.end() - 1, shape.begin())) {
      fail(ErrorKind::internal, "concat_last: {} beside {}", to_string(own), to_string(parts.front().shape()));
    }
    shape.back() += own.back();
  }
  return shape;
}

void take_gradient(const Tensor& from, const Var& part) {
  if (!part.requires_grad()) return;
  const Gradient to = part.begin_gradient();
  to.beta != 0.0F ? add_rows(from, to.tensor) : copy_rows(from, to.tensor);
}

}  // namespace

Var concat_last(Tape& tape, std::span<const Var> parts) {
  const Shape shape = joined_shape(parts);
  const Tensor y = Tensor::empty(shape, parts.front().value().dtype());
  int64_t column = 0;
  bool any = false;
  for (const Var& part : parts) {
    copy_rows(part.value(), y.narrow_last(column, part.value().cols()));
    column += part.value().cols();
    any = any || part.requires_grad();
  }
  const Var out = tape.input(y, tape.recording() && any);
  tape.record(out, {}, [out, parts = std::vector<Var>(parts.begin(), parts.end())] {
    int64_t begin = 0;
    for (const Var& part : parts) {
      take_gradient(out.grad().narrow_last(begin, part.shape().back()), part);
      begin += part.shape().back();
    }
  });
  return out;
}

Var concat_tokens(Tape& tape, const Var& a, const Var& b) {
  const Shape &left = a.shape(), &right = b.shape();
  if (left.size() != 3 || right.size() != 3 || left[0] != right[0] || left[2] != right[2]) {
    fail(ErrorKind::internal, "concat_tokens: {} before {}", to_string(left), to_string(right));
  }
  // Tokens of a sample are one long row each.
  const Var parts[] = {reshape(tape, a, {left[0], left[1] * left[2]}),
                       reshape(tape, b, {right[0], right[1] * right[2]})};
  return reshape(tape, concat_last(tape, parts), {left[0], left[1] + right[1], left[2]});
}

}  // namespace farsight
