// SPDX-License-Identifier: Apache-2.0
#include "kernels/attention/cudnn_descriptor_cuda.h"

#include <algorithm>

namespace farsight::cuda {
namespace {

// The library keeps one text per thread that says more than the status, where it has one.
std::string words_of(cudnnStatus_t status) {
  char detail[1024] = "";
  cudnnGetLastErrorString(detail, sizeof(detail));
  std::string words = cudnnGetErrorString(status);
  if (detail[0] != '\0') words += std::string(": ") + detail;
  return words;
}

}  // namespace

CudnnError::CudnnError(const std::string& what, cudnnStatus_t status)
    : std::runtime_error(what + ": " + words_of(status)), status_(status) {}

void expect_success(const char* what, cudnnStatus_t status) {
  if (status != CUDNN_STATUS_SUCCESS) throw CudnnError(what, status);
}

Descriptor::Descriptor(cudnnBackendDescriptorType_t type) {
  expect_success("cuDNN descriptor", cudnnBackendCreateDescriptor(type, &raw_));
}

Descriptor::~Descriptor() {
  if (raw_ != nullptr) cudnnBackendDestroyDescriptor(raw_);
}

void Descriptor::set_raw(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t count,
                         const void* values) {
  const cudnnStatus_t status = cudnnBackendSetAttribute(raw_, name, type, count, values);
  if (status != CUDNN_STATUS_SUCCESS) throw CudnnError("cuDNN attribute " + std::to_string(name), status);
}

void Descriptor::set_descriptors(cudnnBackendAttributeName_t name, std::span<const cudnnBackendDescriptor_t> values) {
  set_raw(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, static_cast<int64_t>(values.size()), values.data());
}

void Descriptor::finalize(const char* what) { expect_success(what, cudnnBackendFinalize(raw_)); }

int64_t Descriptor::get_int64(cudnnBackendAttributeName_t name) const {
  int64_t value = 0, count = 0;
  const cudnnStatus_t status = cudnnBackendGetAttribute(raw_, name, CUDNN_TYPE_INT64, 1, &count, &value);
  if (status != CUDNN_STATUS_SUCCESS) throw CudnnError("cuDNN attribute " + std::to_string(name), status);
  return value;
}

std::vector<Descriptor> Descriptor::get_descriptors(cudnnBackendAttributeName_t name, cudnnBackendDescriptorType_t type,
                                                    int64_t most) const {
  std::vector<Descriptor> found;
  std::vector<cudnnBackendDescriptor_t> raw;
  for (int64_t i = 0; i < most; ++i) raw.push_back(found.emplace_back(type).raw());
  int64_t count = 0;
  const cudnnStatus_t status =
      cudnnBackendGetAttribute(raw_, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, most, &count, raw.data());
  if (status != CUDNN_STATUS_SUCCESS) throw CudnnError("cuDNN attribute " + std::to_string(name), status);
  found.erase(found.begin() + std::min(count, most), found.end());
  return found;
}

}  // namespace farsight::cuda
