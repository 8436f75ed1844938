// SPDX-License-Identifier: Apache-2.0
#include "tests/kernels/graph_interpreter_cuda.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

namespace farsight::testing {
namespace {

using cuda::GraphOperation;
using cuda::GraphTensor;
using cuda::SdpaTensor;

template <class Body>
void for_indices(const cuda::GraphDims& dims, const Body& body) {
  for (int64_t b = 0; b < dims[0]; ++b) {
    for (int64_t h = 0; h < dims[1]; ++h) {
      for (int64_t r = 0; r < dims[2]; ++r) {
        for (int64_t c = 0; c < dims[3]; ++c) body(std::array<int64_t, 4>{b, h, r, c});
      }
    }
  }
}

double apply(int32_t mode, double x, double b, double t) {
  switch (mode) {
    case CUDNN_POINTWISE_ADD:
      return x + b;
    case CUDNN_POINTWISE_SUB:
      return x - b;
    case CUDNN_POINTWISE_MUL:
      return x * b;
    case CUDNN_POINTWISE_DIV:
      return x / b;
    case CUDNN_POINTWISE_EXP:
      return std::exp(x);
    case CUDNN_POINTWISE_LOG:
      return std::log(x);
    case CUDNN_POINTWISE_IDENTITY:
      return x;
    case CUDNN_POINTWISE_CMP_GE:
      return x >= b ? 1.0 : 0.0;
    case CUDNN_POINTWISE_CMP_GT:
      return x > b ? 1.0 : 0.0;
    case CUDNN_POINTWISE_CMP_LE:
      return x <= b ? 1.0 : 0.0;
    case CUDNN_POINTWISE_CMP_LT:
      return x < b ? 1.0 : 0.0;
    case CUDNN_POINTWISE_LOGICAL_AND:
      return x != 0.0 && b != 0.0 ? 1.0 : 0.0;
    case CUDNN_POINTWISE_BINARY_SELECT:
      return t != 0.0 ? x : b;
    default:
      throw std::runtime_error("a pointwise mode without a meaning here");
  }
}

bool has_key_rows(int64_t id) {
  for (const SdpaTensor t :
       {SdpaTensor::k, SdpaTensor::v, SdpaTensor::dk, SdpaTensor::dv, SdpaTensor::dk_heads, SdpaTensor::dv_heads}) {
    if (id == static_cast<int64_t>(t)) return true;
  }
  return false;
}

}  // namespace

// The library takes offsets of full heads to be those of the gradient that they are summed to, times the group.
int64_t GraphInterpreter::address(const GraphTensor& t, const Index& i) const {
  int64_t first = i[0] * t.strides[0];
  if (t.ragged != nullptr && !t.is_virtual) {
    int64_t of = t.id, times = 1;
    if (t.id == static_cast<int64_t>(SdpaTensor::dk_heads)) of = static_cast<int64_t>(SdpaTensor::dk);
    if (t.id == static_cast<int64_t>(SdpaTensor::dv_heads)) of = static_cast<int64_t>(SdpaTensor::dv);
    if (of != t.id) times = t.dims[1] / tensor(of).dims[1];
    const auto offsets = static_cast<int64_t>(offsets_of(static_cast<SdpaTensor>(of)));
    if (tensor(offsets).descriptor != t.ragged) throw std::runtime_error("the offsets of another tensor");
    first = times * static_cast<int64_t>(memory_.at(offsets)[static_cast<size_t>(i[0])]);
  }
  return first + i[1] * t.strides[1] + i[2] * t.strides[2] + i[3] * t.strides[3];
}

int64_t GraphInterpreter::length(int64_t id, int64_t sample, int64_t otherwise) const {
  return id == 0 ? otherwise : static_cast<int64_t>(memory_.at(id)[static_cast<size_t>(sample)]);
}

// Axes of one element serve all; fewer heads serve groups. What was never written and what is beyond a document is 0.
double GraphInterpreter::load(int64_t id, Index i) const {
  const GraphTensor& t = tensor(id);
  for (size_t axis = 0; axis < 4; ++axis) {
    if (t.dims[axis] == 1) i[axis] = 0;
  }
  const auto at = static_cast<size_t>(address(t, i));
  const auto found = memory_.find(id);
  return found == memory_.end() || at >= found->second.size() ? 0.0 : found->second[at];
}

void GraphInterpreter::store(int64_t id, const Index& i, double value) {
  const GraphTensor& t = tensor(id);
  if (t.ragged != nullptr && !t.is_virtual) {
    const SdpaTensor lengths = has_key_rows(id) ? SdpaTensor::k_lengths : SdpaTensor::q_lengths;
    if (i[2] >= length(static_cast<int64_t>(lengths), i[0], 0)) return;
  }
  const auto at = static_cast<size_t>(address(t, i));
  std::vector<double>& to = memory_[id];
  if (to.size() <= at) to.resize(at + 1, 0.0);
  to[at] = value;
}

void GraphInterpreter::matmul(const GraphOperation& o) {
  const int64_t inner = tensor(o.x).dims[3];
  const auto head = [](const GraphTensor& t, const GraphTensor& y, int64_t h) { return h * t.dims[1] / y.dims[1]; };
  const GraphTensor &a = tensor(o.x), &b = tensor(o.b), &y = tensor(o.y);
  for_indices(y.dims, [&](const Index& i) {
    double sum = 0.0;
    const bool inside = i[2] < length(o.m, i[0], y.dims[2]) && i[3] < length(o.n, i[0], y.dims[3]);
    const int64_t terms = inside ? length(o.k, i[0], inner) : 0;
    for (int64_t c = 0; c < terms; ++c) {
      sum += load(o.x, {i[0], head(a, y, i[1]), i[2], c}) * load(o.b, {i[0], head(b, y, i[1]), c, i[3]});
    }
    store(o.y, i, sum);
  });
}

void GraphInterpreter::pointwise(const GraphOperation& o) {
  for_indices(tensor(o.y).dims, [&](const Index& i) {
    if (o.mode == CUDNN_POINTWISE_GEN_INDEX) return store(o.y, i, static_cast<double>(i[static_cast<size_t>(o.axis)]));
    store(o.y, i, apply(o.mode, load(o.x, i), o.b == 0 ? 0.0 : load(o.b, i), o.t == 0 ? 0.0 : load(o.t, i)));
  });
}

void GraphInterpreter::reduce(const GraphOperation& o) {
  const GraphTensor &x = tensor(o.x), &y = tensor(o.y);
  const bool maximum = o.mode == CUDNN_REDUCE_TENSOR_MAX;
  if (!maximum && o.mode != CUDNN_REDUCE_TENSOR_ADD) throw std::runtime_error("a reduction without a meaning here");
  for_indices(y.dims, [&](const Index& i) {
    double result = maximum ? -std::numeric_limits<double>::infinity() : 0.0;
    const int64_t group = x.dims[1] / y.dims[1], columns = x.dims[3] / y.dims[3];
    for (int64_t h = 0; h < group; ++h) {
      for (int64_t c = 0; c < columns; ++c) {
        const double value = load(o.x, {i[0], i[1] * group + h, i[2], i[3] * columns + c});
        result = maximum ? std::max(result, value) : result + value;
      }
    }
    store(o.y, i, result);
  });
}

// The same memory in other dims: elements meet where their strides lead to the same place.
void GraphInterpreter::reshape(const GraphOperation& o) {
  const GraphTensor &x = tensor(o.x), &y = tensor(o.y);
  std::map<int64_t, Index> places;
  const auto place = [](const GraphTensor& t, const Index& i) {
    return i[0] * t.strides[0] + i[1] * t.strides[1] + i[2] * t.strides[2] + i[3] * t.strides[3];
  };
  for_indices(x.dims, [&](const Index& i) { places[place(x, i)] = i; });
  for_indices(y.dims, [&](const Index& i) { store(o.y, i, load(o.x, places.at(place(y, i)))); });
}

void GraphInterpreter::run() {
  for (const GraphOperation& o : graph_.parts.written()) {
    switch (o.kind) {
      case GraphOperation::Kind::matmul:
        matmul(o);
        break;
      case GraphOperation::Kind::pointwise:
        pointwise(o);
        break;
      case GraphOperation::Kind::reduce:
        reduce(o);
        break;
      case GraphOperation::Kind::reshape:
        reshape(o);
        break;
    }
  }
}

}  // namespace farsight::testing
