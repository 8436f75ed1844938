// SPDX-License-Identifier: Apache-2.0
#include "tests/data/hdf5_sample.h"

#include <algorithm>

#include "data/hdf5.h"

namespace farsight {

namespace {

class SampleWriter {
 public:
  SampleWriter(const std::string& path, const CorpusSample& sample)
      : context_{.file = path, .kind = ErrorKind::io}, sample_(sample) {}

  void run() const {
    const h5::Handle file = h5::create_file(context_);
    if (!sample_.format.empty()) h5::write_string(context_, file.get(), "format", sample_.format);
    h5::write_int(context_, file.get(), "format_version", sample_.version);
    h5::write_string(context_, file.get(), "kind", sample_.kind);
    h5::write_string(context_, file.get(), "uuid", "5a3b0f0e-0000-4000-8000-000000000001");
    const h5::Handle tokenizer = h5::create_group(context_, file.get(), "tokenizer");
    h5::write_string(context_, tokenizer.get(), "type", "byte");
    h5::write_int(context_, tokenizer.get(), "vocab_size", sample_.vocab_size);
    h5::write_string(context_, tokenizer.get(), "fingerprint", sample_.fingerprint);
    const h5::Handle split = h5::create_group(context_, file.get(), sample_.split);
    write_tokens(split.get());
    if (sample_.doc_offsets) write_like_tokens(split.get(), "doc_offsets", H5T_STD_I64LE, *sample_.doc_offsets);
    if (sample_.loss_mask) {
      const std::vector<int64_t> mask(sample_.loss_mask->begin(), sample_.loss_mask->end());
      write_like_tokens(split.get(), "loss_mask", H5T_STD_U8LE, mask);
    }
  }

 private:
  void write_tokens(hid_t split) const {
    const std::vector<int64_t> values(sample_.tokens.begin(), sample_.tokens.end());
    switch (sample_.storage) {
      case SampleStorage::floats:
        return write(split, "tokens", H5T_IEEE_F32LE, values, {values.size()});
      case SampleStorage::two_dimensional:
        return write(split, "tokens", H5T_STD_U16LE, values, {2, values.size() / 2});
      case SampleStorage::wide:
        return write(split, "tokens", H5T_STD_I64LE, values, {values.size()});
      case SampleStorage::soft_link:
        write(split, "real", H5T_STD_U16LE, values, {values.size()});
        context_.ok(H5Lcreate_soft("real", split, "tokens", H5P_DEFAULT, H5P_DEFAULT), "tokens", "cannot link");
        return;
      default:
        return write_like_tokens(split, "tokens", H5T_STD_U16LE, values);
    }
  }

  void write_like_tokens(hid_t group, const char* name, hid_t type, const std::vector<int64_t>& values) const {
    const h5::Handle swapped(H5Tcopy(type), H5Tclose);
    if (sample_.storage == SampleStorage::big_endian) H5Tset_order(swapped.get(), H5T_ORDER_BE);
    write(group, name, swapped.get(), values, {values.size()});
  }

  h5::Handle layout(size_t elements) const {
    h5::Handle creation(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
    const hsize_t chunk = std::min<hsize_t>(kSampleChunk, elements);
    switch (sample_.storage) {
      case SampleStorage::deflate:
        H5Pset_chunk(creation.get(), 1, &chunk);
        H5Pset_shuffle(creation.get());
        H5Pset_deflate(creation.get(), 1);
        break;
      case SampleStorage::fletcher:
        H5Pset_chunk(creation.get(), 1, &chunk);
        H5Pset_fletcher32(creation.get());
        break;
      case SampleStorage::chunks:
        H5Pset_chunk(creation.get(), 1, &chunk);
        break;
      case SampleStorage::compact:
        H5Pset_layout(creation.get(), H5D_COMPACT);
        break;
      case SampleStorage::external:
        H5Pset_external(creation.get(), (context_.file + ".raw").c_str(), 0, H5F_UNLIMITED);
        break;
      default:
        break;
    }
    return creation;
  }

  void write(hid_t group, const char* name, hid_t type, const std::vector<int64_t>& values,
             const std::vector<hsize_t>& shape) const {
    const h5::Handle space(H5Screate_simple(static_cast<int>(shape.size()), shape.data(), nullptr), H5Sclose);
    const h5::Handle creation = layout(values.size());
    const h5::Handle dataset(
        context_.id(H5Dcreate2(group, name, type, space.get(), H5P_DEFAULT, creation.get(), H5P_DEFAULT), name,
                    "cannot create"),
        H5Dclose);
    context_.ok(H5Dwrite(dataset.get(), H5T_NATIVE_INT64, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()), name,
                "cannot write");
  }

  h5::Context context_;
  const CorpusSample& sample_;
};

}  // namespace

void write_sample(const std::string& path, const CorpusSample& sample) {
  const h5::Lock lock;
  SampleWriter(path, sample).run();
}

}  // namespace farsight
