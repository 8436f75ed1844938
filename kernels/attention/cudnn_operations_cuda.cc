// SPDX-License-Identifier: Apache-2.0
#include "kernels/attention/cudnn_operations_cuda.h"

namespace farsight::cuda {
namespace {

// What an operation computes in: comparisons in truth values, everything on indices in integers.
cudnnDataType_t compute_type(cudnnDataType_t result) {
  return result == CUDNN_DATA_INT32 || result == CUDNN_DATA_BOOLEAN ? result : CUDNN_DATA_FLOAT;
}

}  // namespace

GraphDims packed_strides(const GraphDims& dims) { return {dims[1] * dims[2] * dims[3], dims[2] * dims[3], dims[3], 1}; }

GraphTensor GraphBuilder::tensor(int64_t id, const GraphDims& dims, const GraphDims& strides, cudnnDataType_t type,
                                 bool is_virtual, bool by_value, const Descriptor* ragged) {
  Descriptor& d = add(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
  d.set(CUDNN_ATTR_TENSOR_UNIQUE_ID, id);
  d.set(CUDNN_ATTR_TENSOR_DATA_TYPE, type);
  d.set(CUDNN_ATTR_TENSOR_DIMENSIONS, std::span<const int64_t>(dims));
  d.set(CUDNN_ATTR_TENSOR_STRIDES, std::span<const int64_t>(strides));
  d.set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, int64_t{by_value ? 4 : 16});
  d.set(CUDNN_ATTR_TENSOR_IS_VIRTUAL, is_virtual);
  d.set(CUDNN_ATTR_TENSOR_IS_BY_VALUE, by_value);
  if (ragged != nullptr) d.set(CUDNN_ATTR_TENSOR_RAGGED_OFFSET_DESC, *ragged);
  d.finalize("cuDNN tensor");
  return tensors_[id] = {&d, id, dims, strides, ragged, is_virtual};
}

GraphTensor GraphBuilder::external(int64_t id, const GraphDims& dims, const GraphDims& strides, cudnnDataType_t type,
                                   const Descriptor* ragged) {
  return tensor(id, dims, strides, type, /*is_virtual=*/false, /*by_value=*/false, ragged);
}
GraphTensor GraphBuilder::scalar(int64_t id, cudnnDataType_t type) {
  return tensor(id, {1, 1, 1, 1}, {1, 1, 1, 1}, type, /*is_virtual=*/false, /*by_value=*/true, nullptr);
}
GraphTensor GraphBuilder::inner(const GraphDims& dims, const GraphDims& strides, cudnnDataType_t type,
                                const Descriptor* ragged) {
  return tensor(next_inner_++, dims, strides, type, /*is_virtual=*/true, /*by_value=*/false, ragged);
}

void GraphBuilder::finish_operation(Descriptor& operation, const char* what, const GraphOperation& written) {
  operation.finalize(what);
  operations_.push_back(operation.raw());
  written_.push_back(written);
}

void GraphBuilder::matmul(const GraphTensor& a, const GraphTensor& b, const GraphTensor& c,
                          const MatmulLengths& lengths) {
  Descriptor& how = add(CUDNN_BACKEND_MATMUL_DESCRIPTOR);
  how.set(CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_DATA_FLOAT);
  if (lengths.pad) how.set(CUDNN_ATTR_MATMUL_PADDING_VALUE, 0.0);
  how.finalize("cuDNN product");
  Descriptor& operation = add(CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR);
  operation.set(CUDNN_ATTR_OPERATION_MATMUL_ADESC, *a.descriptor);
  operation.set(CUDNN_ATTR_OPERATION_MATMUL_BDESC, *b.descriptor);
  operation.set(CUDNN_ATTR_OPERATION_MATMUL_CDESC, *c.descriptor);
  operation.set(CUDNN_ATTR_OPERATION_MATMUL_DESC, how);
  if (lengths.m != nullptr) operation.set(CUDNN_ATTR_OPERATION_MATMUL_GEMM_M_OVERRIDE_DESC, *lengths.m->descriptor);
  if (lengths.n != nullptr) operation.set(CUDNN_ATTR_OPERATION_MATMUL_GEMM_N_OVERRIDE_DESC, *lengths.n->descriptor);
  if (lengths.k != nullptr) operation.set(CUDNN_ATTR_OPERATION_MATMUL_GEMM_K_OVERRIDE_DESC, *lengths.k->descriptor);
  const auto id = [](const GraphTensor* t) { return t == nullptr ? 0 : t->id; };
  finish_operation(
      operation, "cuDNN product operation",
      {GraphOperation::Kind::matmul, 0, 0, a.id, b.id, 0, c.id, id(lengths.m), id(lengths.n), id(lengths.k)});
}

void GraphBuilder::pointwise_operation(cudnnPointwiseMode_t mode, cudnnDataType_t compute, const GraphTensor& x,
                                       const GraphTensor* b, const GraphTensor* t, const GraphTensor& y, int64_t axis) {
  Descriptor& how = add(CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
  how.set(CUDNN_ATTR_POINTWISE_MODE, mode);
  how.set(CUDNN_ATTR_POINTWISE_MATH_PREC, compute);
  if (mode == CUDNN_POINTWISE_GEN_INDEX) how.set(CUDNN_ATTR_POINTWISE_AXIS, axis);
  how.finalize("cuDNN pointwise");
  Descriptor& operation = add(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
  operation.set(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, how);
  operation.set(CUDNN_ATTR_OPERATION_POINTWISE_XDESC, *x.descriptor);
  operation.set(CUDNN_ATTR_OPERATION_POINTWISE_YDESC, *y.descriptor);
  if (b != nullptr) operation.set(CUDNN_ATTR_OPERATION_POINTWISE_BDESC, *b->descriptor);
  if (t != nullptr) operation.set(CUDNN_ATTR_OPERATION_POINTWISE_TDESC, *t->descriptor);
  finish_operation(operation, "cuDNN pointwise operation",
                   {GraphOperation::Kind::pointwise, mode, axis, x.id, b == nullptr ? 0 : b->id,
                    t == nullptr ? 0 : t->id, y.id, 0, 0, 0});
}

GraphTensor GraphBuilder::pointwise(cudnnPointwiseMode_t mode, const GraphTensor& x, cudnnDataType_t type) {
  const GraphTensor y = inner(x.dims, x.strides, type);
  pointwise_operation(mode, compute_type(type), x, nullptr, nullptr, y, 0);
  return y;
}
GraphTensor GraphBuilder::pointwise(cudnnPointwiseMode_t mode, const GraphTensor& x, const GraphTensor& b,
                                    cudnnDataType_t type) {
  const GraphTensor y = inner(x.dims, x.strides, type);
  pointwise_operation(mode, compute_type(type), x, &b, nullptr, y, 0);
  return y;
}
void GraphBuilder::pointwise_into(cudnnPointwiseMode_t mode, const GraphTensor& x, const GraphTensor& b,
                                  const GraphTensor& y) {
  pointwise_operation(mode, CUDNN_DATA_FLOAT, x, &b, nullptr, y, 0);
}
void GraphBuilder::identity(const GraphTensor& x, const GraphTensor& y) {
  pointwise_operation(CUDNN_POINTWISE_IDENTITY, CUDNN_DATA_FLOAT, x, nullptr, nullptr, y, 0);
}
GraphTensor GraphBuilder::index(const GraphTensor& like, int64_t axis) {
  const GraphTensor y = inner(like.dims, like.strides, CUDNN_DATA_INT32);
  pointwise_operation(CUDNN_POINTWISE_GEN_INDEX, CUDNN_DATA_INT32, like, nullptr, nullptr, y, axis);
  return y;
}
GraphTensor GraphBuilder::select(const GraphTensor& condition, const GraphTensor& x, const GraphTensor& otherwise) {
  const GraphTensor y = inner(x.dims, x.strides);
  pointwise_operation(CUDNN_POINTWISE_BINARY_SELECT, CUDNN_DATA_FLOAT, x, &otherwise, &condition, y, 0);
  return y;
}

void GraphBuilder::reduce(cudnnReduceTensorOp_t how_to, const GraphTensor& x, const GraphTensor& y) {
  Descriptor& how = add(CUDNN_BACKEND_REDUCTION_DESCRIPTOR);
  how.set(CUDNN_ATTR_REDUCTION_OPERATOR, how_to);
  how.set(CUDNN_ATTR_REDUCTION_COMP_TYPE, CUDNN_DATA_FLOAT);
  how.finalize("cuDNN reduction");
  Descriptor& operation = add(CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR);
  operation.set(CUDNN_ATTR_OPERATION_REDUCTION_XDESC, *x.descriptor);
  operation.set(CUDNN_ATTR_OPERATION_REDUCTION_YDESC, *y.descriptor);
  operation.set(CUDNN_ATTR_OPERATION_REDUCTION_DESC, how);
  finish_operation(operation, "cuDNN reduction operation",
                   {GraphOperation::Kind::reduce, how_to, 0, x.id, 0, 0, y.id, 0, 0, 0});
}

void GraphBuilder::reshape(const GraphTensor& x, const GraphTensor& y) {
  Descriptor& operation = add(CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR);
  operation.set(CUDNN_ATTR_OPERATION_RESHAPE_XDESC, *x.descriptor);
  operation.set(CUDNN_ATTR_OPERATION_RESHAPE_YDESC, *y.descriptor);
  finish_operation(operation, "cuDNN reshape operation",
                   {GraphOperation::Kind::reshape, 0, 0, x.id, 0, 0, y.id, 0, 0, 0});
}

Descriptor GraphBuilder::finish(cudnnHandle_t handle) {
  Descriptor graph(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
  if (handle != nullptr) graph.set(CUDNN_ATTR_OPERATIONGRAPH_HANDLE, handle);
  graph.set_descriptors(CUDNN_ATTR_OPERATIONGRAPH_OPS, operations_);
  graph.finalize("cuDNN operation graph");
  return graph;
}

}  // namespace farsight::cuda
