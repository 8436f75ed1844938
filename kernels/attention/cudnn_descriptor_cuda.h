// SPDX-License-Identifier: Apache-2.0
// Descriptors of cuDNN's backend API as owned values: created empty, given attributes, finalised once. Failures are
// CudnnError with the library's own words; they stay inside the plugin, whose operations turn them into a status.
// Descriptors can be made and operation graphs finalised without a device; handles cannot.
// Source: cudnn_graph_v9.h.
#pragma once

#include <cudnn.h>

#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace farsight::cuda {

static_assert(CUDNN_VERSION >= 91501, "the plugin needs cuDNN 9.15.1 or later: see sdpa_refusal");

class CudnnError : public std::runtime_error {
 public:
  CudnnError(const std::string& what, cudnnStatus_t status);
  cudnnStatus_t status() const { return status_; }

 private:
  cudnnStatus_t status_;
};

// Throws unless the status is success; `what` was tried.
void expect_success(const char* what, cudnnStatus_t status);

// How the library names the C++ type of an attribute.
template <class T>
inline constexpr cudnnBackendAttributeType_t kAttributeType = T::is_no_attribute;
template <>
inline constexpr auto kAttributeType<int64_t> = CUDNN_TYPE_INT64;
template <>
inline constexpr auto kAttributeType<bool> = CUDNN_TYPE_BOOLEAN;
template <>
inline constexpr auto kAttributeType<char> = CUDNN_TYPE_CHAR;
template <>
inline constexpr auto kAttributeType<double> = CUDNN_TYPE_DOUBLE;
template <>
inline constexpr auto kAttributeType<void*> = CUDNN_TYPE_VOID_PTR;
template <>
inline constexpr auto kAttributeType<cudnnHandle_t> = CUDNN_TYPE_HANDLE;
template <>
inline constexpr auto kAttributeType<cudnnDataType_t> = CUDNN_TYPE_DATA_TYPE;
template <>
inline constexpr auto kAttributeType<cudnnPointwiseMode_t> = CUDNN_TYPE_POINTWISE_MODE;
template <>
inline constexpr auto kAttributeType<cudnnReduceTensorOp_t> = CUDNN_TYPE_REDUCTION_OPERATOR_TYPE;
template <>
inline constexpr auto kAttributeType<cudnnBackendHeurMode_t> = CUDNN_TYPE_HEUR_MODE;

class Descriptor {
 public:
  explicit Descriptor(cudnnBackendDescriptorType_t type);
  ~Descriptor();
  Descriptor(Descriptor&& other) noexcept : raw_(std::exchange(other.raw_, nullptr)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(raw_, other.raw_);
    return *this;
  }

  template <class T>
  void set(cudnnBackendAttributeName_t name, std::span<const T> values) {
    set_raw(name, kAttributeType<T>, static_cast<int64_t>(values.size()), values.data());
  }
  template <class T>
  void set(cudnnBackendAttributeName_t name, const T& value) {
    set(name, std::span<const T>(&value, 1));
  }
  void set(cudnnBackendAttributeName_t name, const Descriptor& value) { set_descriptors(name, {&value.raw_, 1}); }
  void set_descriptors(cudnnBackendAttributeName_t name, std::span<const cudnnBackendDescriptor_t> values);
  void finalize(const char* what);

  int64_t get_int64(cudnnBackendAttributeName_t name) const;
  // Descriptors of this type that an attribute holds, `most` at most.
  std::vector<Descriptor> get_descriptors(cudnnBackendAttributeName_t name, cudnnBackendDescriptorType_t type,
                                          int64_t most) const;
  cudnnBackendDescriptor_t raw() const { return raw_; }

 private:
  void set_raw(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t count, const void* values);

  cudnnBackendDescriptor_t raw_ = nullptr;
};

}  // namespace farsight::cuda
