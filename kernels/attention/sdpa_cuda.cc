// SPDX-License-Identifier: Apache-2.0
// Attention through cuDNN. One handle and one set of plans per thread and device; a plan is looked up by everything
// that the library was asked for when it was built, so that the steady step asks nothing.
#include "kernels/attention/sdpa_cuda.h"

#include <cuda_runtime.h>

#include <cstddef>
#include <limits>
#include <map>
#include <memory>
#include <vector>

#include "kernels/attention/cudnn_graph_cuda.h"
#include "kernels/attention/cudnn_plan_cuda.h"
#include "kernels/attention/sdpa_offsets_cuda.h"
#include "kernels/cuda/operations_cuda.h"
#include "kernels/cuda/status_cuda.h"

namespace farsight::cuda {
namespace {

constexpr int64_t kAlignment = 256;  // of the parts of a workspace

struct Plan {
  Plan(SdpaGraph made, const CudnnTarget& target) : graph(std::move(made)), plan(first_plan(graph.graph, target)) {
    for (const SdpaOperand& operand : graph.operands) workspace_bytes += rounded(operand.workspace_bytes);
    own_workspace = workspace_bytes;
    workspace_bytes += plan.get_int64(CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE);
  }
  static int64_t rounded(int64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

  SdpaGraph graph;
  Descriptor plan;
  int64_t workspace_bytes = 0, own_workspace = 0;  // the library's part begins at own_workspace
};

struct Library {
  cudnnHandle_t handle = nullptr;
  SdpaLibrary version{};
  std::map<std::vector<int64_t>, std::unique_ptr<Plan>> plans;
};

void expect_cuda(const char* what, cudaError_t error) {
  if (error != cudaSuccess) throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(error));
}

SdpaLibrary library_of(int device) {
  int major = 0, minor = 0;
  expect_cuda("device capability", cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
  expect_cuda("device capability", cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device));
  return {static_cast<int64_t>(cudnnGetVersion()), 10 * major + minor};
}

// Only after a device was selected: without a driver the library makes no handle.
Library& open_library() {
  // Never closed, never freed: plans hold code of the driver, which may be gone when a thread ends.
  thread_local auto& libraries = *new std::map<int, Library>;
  int device = 0;
  expect_cuda("attention", cudaGetDevice(&device));
  Library& library = libraries[device];
  if (library.handle == nullptr) {
    library.version = library_of(device);
    expect_success("cuDNN", cudnnCreate(&library.handle));
  }
  return library;
}

// All that a plan depends on. Scale and shifts are given to the plan when it runs, but the bounds may choose its
// kernel.
std::vector<int64_t> key_of(const CudaSdpa& a, bool backward) {
  const CudaSdpaPacking& p = a.packing;
  return {backward,
          static_cast<int64_t>(a.type),
          a.batch,
          a.heads,
          a.kv_heads,
          a.q_tokens,
          a.k_tokens,
          a.width,
          a.value_width,
          a.q_stride,
          a.k_stride,
          a.v_stride,
          a.low,
          a.high,
          a.shift,
          backward && a.deterministic,
          p.q_starts != nullptr,
          p.q_rows,
          p.k_rows,
          p.lse_tokens,
          p.align_ends};
}
std::vector<int64_t> key_of(const CudaSdpaForward& call) {
  auto key = key_of(call.a, /*backward=*/false);
  key.push_back(call.out_stride);
  return key;
}
std::vector<int64_t> key_of(const CudaSdpaBackward& call) {
  auto key = key_of(call.a, /*backward=*/true);
  key.insert(key.end(), {call.out_stride, call.dout_stride, static_cast<int64_t>(call.dq_type), call.dq_stride,
                         call.dk_stride, call.dv_stride});
  return key;
}

SdpaGraph graph_of(const CudaSdpaForward& call, cudnnHandle_t handle) { return sdpa_forward_graph(call, handle); }
SdpaGraph graph_of(const CudaSdpaBackward& call, cudnnHandle_t handle) { return sdpa_backward_graph(call, handle); }

template <class Call>
const Plan& plan_of(const Call& call, Library& library) {
  if (const char* why = sdpa_refusal(call, library.version)) throw std::runtime_error(why);
  std::unique_ptr<Plan>& plan = library.plans[key_of(call)];
  if (plan == nullptr) {
    plan = std::make_unique<Plan>(graph_of(call, library.handle), CudnnTarget{library.handle, nullptr});
  }
  return *plan;
}

// Numbers that are given by value.
struct Scalars {
  float scale, minus_infinity = -std::numeric_limits<float>::infinity(), one = 1.0F;
  int32_t right_shift, left_shift;

  explicit Scalars(const CudaSdpa& a) : scale(a.scale) {
    const SdpaBand band = sdpa_band(a);
    right_shift = static_cast<int32_t>(band.right_shift);
    left_shift = static_cast<int32_t>(band.left_shift);
  }
  const void* find(SdpaTensor id) const {
    switch (id) {
      case SdpaTensor::scale:
        return &scale;
      case SdpaTensor::minus_infinity:
        return &minus_infinity;
      case SdpaTensor::one:
        return &one;
      case SdpaTensor::right_shift:
        return &right_shift;
      case SdpaTensor::left_shift:
        return &left_shift;
      default:
        return nullptr;
    }
  }
};

struct Matrix {
  const void* data;
  int64_t stride;
};

Matrix matrix_of(const CudaSdpa& a, SdpaTensor id) {
  switch (id) {
    case SdpaTensor::q:
      return {a.q, a.q_stride};
    case SdpaTensor::k:
      return {a.k, a.k_stride};
    case SdpaTensor::v:
      return {a.v, a.v_stride};
    case SdpaTensor::dq_sum:
      return {nullptr, a.heads * a.width};
    default:
      return {nullptr, 1};  // statistics
  }
}
Matrix matrix_of(const CudaSdpaForward& call, SdpaTensor id) {
  switch (id) {
    case SdpaTensor::out:
      return {call.out, call.out_stride};
    case SdpaTensor::lse:
      return {call.lse, 1};
    default:
      return matrix_of(call.a, id);
  }
}
Matrix matrix_of(const CudaSdpaBackward& call, SdpaTensor id) {
  switch (id) {
    case SdpaTensor::out:
      return {call.out, call.out_stride};
    case SdpaTensor::dout:
      return {call.dout, call.dout_stride};
    case SdpaTensor::lse:
      return {call.lse, 1};
    case SdpaTensor::dq:
      return {call.dq, call.dq_stride};
    case SdpaTensor::dk:
      return {call.dk, call.dk_stride};
    case SdpaTensor::dv:
      return {call.dv, call.dv_stride};
    default:
      return matrix_of(call.a, id);
  }
}

bool of_keys(SdpaTensor id) {
  return id == SdpaTensor::k || id == SdpaTensor::v || id == SdpaTensor::dk || id == SdpaTensor::dv;
}

// What the operands are in this call, in the order of the graph; and for packed documents the arrays to be filled
// first.
struct Variant {
  std::vector<int64_t> ids;
  std::vector<void*> pointers;
  SdpaDocuments documents{};
};

template <class Call>
SdpaOffsets offsets_in(const Call& call, SdpaTensor of, void* to) {
  const CudaSdpa& a = call.a;
  const bool statistic = of == SdpaTensor::lse || of == SdpaTensor::row_term;
  const int64_t tokens = statistic ? a.packing.lse_tokens : std::numeric_limits<int64_t>::max();
  return {of_keys(of) ? a.packing.k_starts : a.packing.q_starts, matrix_of(call, of).stride, tokens,
          statistic ? a.heads * tokens : 0, static_cast<int64_t*>(to)};
}

template <class Call>
Variant variant_of(const Call& call, const Plan& plan, const Scalars& scalars) {
  Variant variant;
  auto* free = static_cast<std::byte*>(call.workspace);
  SdpaDocuments& documents = variant.documents;
  documents.documents = call.a.batch;
  documents.q_starts = call.a.packing.q_starts;
  documents.k_starts = call.a.packing.k_starts;
  for (const SdpaOperand& operand : plan.graph.operands) {
    const void* pointer = scalars.find(operand.id);
    if (operand.workspace_bytes > 0) {
      if (operand.id == SdpaTensor::q_lengths) documents.q_lengths = reinterpret_cast<int32_t*>(free);
      if (operand.id == SdpaTensor::k_lengths) documents.k_lengths = reinterpret_cast<int32_t*>(free);
      if (operand.id > SdpaTensor::offsets) {
        const auto of =
            static_cast<SdpaTensor>(static_cast<int64_t>(operand.id) - static_cast<int64_t>(SdpaTensor::offsets));
        documents.matrices[documents.count++] = offsets_in(call, of, free);
      }
      pointer = free;
      free += Plan::rounded(operand.workspace_bytes);
    } else if (pointer == nullptr) {
      pointer = matrix_of(call, operand.id).data;
    }
    variant.ids.push_back(static_cast<int64_t>(operand.id));
    variant.pointers.push_back(const_cast<void*>(pointer));  // the library writes to results only
  }
  return variant;
}

template <class Call>
void execute(const Call& call, CudaStream stream) {
  Library& library = open_library();
  const Plan& plan = plan_of(call, library);
  if (call.workspace_bytes < plan.workspace_bytes) {
    throw std::runtime_error("the workspace has " + std::to_string(call.workspace_bytes) + " bytes, the plan needs " +
                             std::to_string(plan.workspace_bytes));
  }
  const Scalars scalars(call.a);
  const Variant variant = variant_of(call, plan, scalars);
  expect_success("cuDNN stream", cudnnSetStream(library.handle, reinterpret_cast<cudaStream_t>(stream)));
  if (variant.documents.count > 0 && sdpa_documents(variant.documents, stream) != 0) {
    throw std::runtime_error(last_message());
  }
  Descriptor pack(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
  pack.set(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, std::span<const int64_t>(variant.ids));
  pack.set(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, std::span<void* const>(variant.pointers));
  void* workspace = static_cast<std::byte*>(call.workspace) + plan.own_workspace;
  pack.set(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, workspace);
  pack.finalize("cuDNN arguments");
  expect_success("cuDNN attention", cudnnBackendExecute(library.handle, plan.plan.raw(), pack.raw()));
}

template <class Body>
int guarded(const char* what, const Body& body) {
  try {
    body();
    return 0;
  } catch (const CudnnError& error) {
    return failed(static_cast<int>(error.status()), what, error.what());
  } catch (const std::exception& error) {
    return failed(1, what, error.what());
  }
}

}  // namespace

int sdpa_library(SdpaLibrary* library) {
  return guarded("attention library", [&] {
    int device = 0;
    expect_cuda("attention library", cudaGetDevice(&device));
    *library = library_of(device);
  });
}

int sdpa_plan(const CudaSdpaPlan* a, CudaStream) {
  return guarded("attention plan", [&] {
    Library& library = open_library();
    const Plan& plan = a->forward != nullptr ? plan_of(*a->forward, library) : plan_of(*a->backward, library);
    *a->workspace_bytes = plan.workspace_bytes;
  });
}

int sdpa_forward(const CudaSdpaForward* a, CudaStream stream) {
  return guarded("attention", [&] { execute(*a, stream); });
}

int sdpa_backward(const CudaSdpaBackward* a, CudaStream stream) {
  return guarded("attention backward", [&] { execute(*a, stream); });
}

}  // namespace farsight::cuda
