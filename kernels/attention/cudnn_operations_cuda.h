// SPDX-License-Identifier: Apache-2.0
// A cuDNN operation graph in the making: tensors, and operations in the order in which they are written. Everything
// inside the graph is 4-dimensional, [B, H, T, D] by strides, and computed in fp32.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <vector>

#include "kernels/attention/cudnn_descriptor_cuda.h"

namespace farsight::cuda {

using GraphDims = std::array<int64_t, 4>;

// Row-major strides.
GraphDims packed_strides(const GraphDims& dims);

// A tensor of the graph; the builder owns its descriptor.
struct GraphTensor {
  const Descriptor* descriptor = nullptr;
  int64_t id = 0;
  GraphDims dims{}, strides{};
  const Descriptor* ragged = nullptr;  // the tensor that says at which elements samples begin
  bool is_virtual = false;
};

// One operation as it was written, for who reads a graph instead of running it. Tensors by id, 0: none.
struct GraphOperation {
  enum class Kind { matmul, pointwise, reduce, reshape };
  Kind kind;
  int32_t mode;  // cudnnPointwiseMode_t or cudnnReduceTensorOp_t
  int64_t axis;  // of an index
  int64_t x, b, t, y;
  int64_t m, n, k;  // lengths of a product
};

class GraphBuilder {
 public:
  // A tensor in memory that the variant pack gives by this id.
  GraphTensor external(int64_t id, const GraphDims& dims, const GraphDims& strides, cudnnDataType_t type,
                       const Descriptor* ragged = nullptr);
  // One number that the variant pack gives by this id as a host pointer.
  GraphTensor scalar(int64_t id, cudnnDataType_t type);
  // A tensor that never reaches memory.
  GraphTensor inner(const GraphDims& dims, const GraphDims& strides, cudnnDataType_t type = CUDNN_DATA_FLOAT,
                    const Descriptor* ragged = nullptr);
  GraphTensor inner(const GraphDims& dims, cudnnDataType_t type = CUDNN_DATA_FLOAT) {
    return inner(dims, packed_strides(dims), type);
  }

  // Lengths of the samples that replace m, n, k of their products, where given.
  struct MatmulLengths {
    const GraphTensor *m = nullptr, *n = nullptr, *k = nullptr;
    bool pad = false;  // what lies beyond counts as 0
  };
  void matmul(const GraphTensor& a, const GraphTensor& b, const GraphTensor& c, const MatmulLengths& lengths);

  // y = mode(x), mode(x, b): y is like x, of this type.
  GraphTensor pointwise(cudnnPointwiseMode_t mode, const GraphTensor& x, cudnnDataType_t type = CUDNN_DATA_FLOAT);
  GraphTensor pointwise(cudnnPointwiseMode_t mode, const GraphTensor& x, const GraphTensor& b,
                        cudnnDataType_t type = CUDNN_DATA_FLOAT);
  void pointwise_into(cudnnPointwiseMode_t mode, const GraphTensor& x, const GraphTensor& b, const GraphTensor& y);
  void identity(const GraphTensor& x, const GraphTensor& y);
  // Index of each element along the axis, int32.
  GraphTensor index(const GraphTensor& like, int64_t axis);
  // condition ? x : otherwise
  GraphTensor select(const GraphTensor& condition, const GraphTensor& x, const GraphTensor& otherwise);

  // Over the axes in which y is 1, or over groups of heads where y has fewer.
  void reduce(cudnnReduceTensorOp_t how, const GraphTensor& x, const GraphTensor& y);
  // The same elements in other dims.
  void reshape(const GraphTensor& x, const GraphTensor& y);

  // The finalised graph; handle null where there is no device. The builder must outlive it.
  Descriptor finish(cudnnHandle_t handle);

  const std::vector<GraphOperation>& written() const { return written_; }
  const std::map<int64_t, GraphTensor>& tensors() const { return tensors_; }

 private:
  GraphTensor tensor(int64_t id, const GraphDims& dims, const GraphDims& strides, cudnnDataType_t type, bool is_virtual,
                     bool by_value, const Descriptor* ragged);
  Descriptor& add(cudnnBackendDescriptorType_t type) { return parts_.emplace_back(type); }
  void finish_operation(Descriptor& operation, const char* what, const GraphOperation& written);
  void pointwise_operation(cudnnPointwiseMode_t mode, cudnnDataType_t compute, const GraphTensor& x,
                           const GraphTensor* b, const GraphTensor* t, const GraphTensor& y, int64_t axis);

  std::deque<Descriptor> parts_;  // addresses must not change
  std::vector<cudnnBackendDescriptor_t> operations_;
  std::vector<GraphOperation> written_;
  std::map<int64_t, GraphTensor> tensors_;
  int64_t next_inner_ = 1000;
};

}  // namespace farsight::cuda
