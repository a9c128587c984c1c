//! The table: how each backend is called, which CMake entries turn it on, what a machine must have.

use serde::{Deserialize, Serialize};

use super::{Need, Row};

macro_rules! backends {
    ($( $(#[$doc:meta])* $variant:ident { $($field:ident : $value:expr),* $(,)? } )*) => {
        /// Where llama.cpp computes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "lowercase")]
        pub enum Backend {
            $( $(#[$doc])* $variant, )*
        }

        pub(super) const TABLE: &[Row] = &[
            $( Row { backend: Backend::$variant, $($field: $value),* }, )*
        ];
    };
}

const LINUX: &str = "linux";
const MACOS: &str = "macos";
const WINDOWS: &str = "windows";
const ALL: &[&str] = &[LINUX, MACOS, WINDOWS];

const NVIDIA: &str = "install NVIDIA's CUDA Toolkit 12 or newer (\"CUDA Toolkit Downloads\" on NVIDIA's developer site), \
    or let `cargo xtask build --backend cuda --provision` get it as PyPI wheels (Linux x86-64, 631 MB)";
const LUNARG: &str = "install LunarG's Vulkan SDK (\"Vulkan SDK\" on LunarG's site) and set VULKAN_SDK";
const VULKAN_HEADERS: &str = "on Debian let `cargo xtask build --backend vulkan --provision` unpack newer ones into the cache; \
    elsewhere install LunarG's Vulkan SDK (\"Vulkan SDK\" on LunarG's site) and set VULKAN_SDK";
const ROCM: &str = "install AMD's ROCm with its HIP SDK (\"ROCm installation\" in AMD's documentation)";
const ONEAPI: &str =
    "install Intel's oneAPI Base Toolkit (\"oneAPI Base Toolkit\" on Intel's site) and run its setvars.sh";

backends! {
    /// The processor, portable over machines of one architecture.
    Cpu {
        name: "cpu",
        about: "the processor",
        switches: &["GGML_CPU"],
        defines: &[],
        systems: ALL,
        needs: &[],
    }
    /// NVIDIA GPUs.
    Cuda {
        name: "cuda",
        about: "NVIDIA GPUs",
        switches: &["GGML_CUDA"],
        // NCCL would be picked up by accident where it is installed, and a program would not start elsewhere.
        defines: &[("GGML_CUDA_NCCL", "OFF", "")],
        systems: &[LINUX, WINDOWS],
        needs: &[
            Need {
                id: "cuda.nvcc",
                what: "the CUDA compiler (nvcc)",
                apt: "",
                dnf: "",
                brew: "",
                winget: "Nvidia.CUDA",
                otherwise: NVIDIA,
            },
            Need {
                id: "cuda.cublas",
                what: "the CUDA libraries (cudart, cublas)",
                apt: "",
                dnf: "",
                brew: "",
                winget: "Nvidia.CUDA",
                otherwise: NVIDIA,
            },
        ],
    }
    /// Apple GPUs.
    Metal {
        name: "metal",
        about: "Apple GPUs",
        switches: &["GGML_METAL"],
        // A program finds its shaders wherever it is moved.
        defines: &[("GGML_METAL_EMBED_LIBRARY", "ON", "")],
        systems: &[MACOS],
        needs: &[Need {
            id: "metal.frameworks",
            what: "the frameworks Foundation, Metal and MetalKit",
            apt: "",
            dnf: "",
            brew: "",
            winget: "",
            otherwise: "build on macOS, after `xcode-select --install`",
        }],
    }
    /// Any GPU with a Vulkan driver.
    Vulkan {
        name: "vulkan",
        about: "any GPU with a Vulkan driver",
        switches: &["GGML_VULKAN"],
        defines: &[],
        systems: ALL,
        needs: &[
            Need {
                id: "vulkan.loader",
                what: "the Vulkan loader (libvulkan)",
                apt: "libvulkan-dev",
                dnf: "vulkan-loader-devel",
                brew: "vulkan-loader",
                winget: "KhronosGroup.VulkanSDK",
                otherwise: LUNARG,
            },
            Need {
                id: "vulkan.headers",
                what: "Vulkan's C++ headers, 1.3.272 or newer (vk::LayerSettingEXT)",
                apt: "libvulkan-dev",
                dnf: "vulkan-headers",
                brew: "vulkan-headers",
                winget: "KhronosGroup.VulkanSDK",
                otherwise: VULKAN_HEADERS,
            },
            Need {
                id: "vulkan.glslc",
                what: "the shader compiler glslc",
                apt: "glslc",
                dnf: "glslc",
                brew: "shaderc",
                winget: "KhronosGroup.VulkanSDK",
                otherwise: LUNARG,
            },
            Need {
                id: "vulkan.spirv-headers",
                what: "SPIRV-Headers with its CMake package",
                apt: "spirv-headers",
                dnf: "spirv-headers-devel",
                brew: "spirv-headers",
                winget: "KhronosGroup.VulkanSDK",
                otherwise: LUNARG,
            },
        ],
    }
    /// A BLAS library on the processor.
    Blas {
        name: "blas",
        about: "a BLAS library on the processor",
        switches: &["GGML_BLAS"],
        defines: &[
            ("GGML_BLAS_VENDOR", "OpenBLAS", LINUX),
            ("GGML_BLAS_VENDOR", "OpenBLAS", WINDOWS),
            ("GGML_BLAS_VENDOR", "Apple", MACOS),
        ],
        systems: ALL,
        needs: &[
            Need {
                id: "blas.library",
                what: "a BLAS library",
                apt: "libopenblas-dev",
                dnf: "openblas-devel",
                brew: "openblas",
                winget: "",
                otherwise: "install OpenBLAS and name it with -D CMAKE_PREFIX_PATH=FOLDER",
            },
            Need {
                id: "blas.header",
                what: "the header cblas.h",
                apt: "libopenblas-dev",
                dnf: "openblas-devel",
                brew: "openblas",
                winget: "",
                otherwise: "install OpenBLAS and name its headers with -D BLAS_INCLUDE_DIRS=FOLDER",
            },
            Need {
                id: "blas.pkg-config",
                what: "pkg-config, by which llama.cpp looks for the header",
                apt: "pkg-config",
                dnf: "pkgconf-pkg-config",
                brew: "pkgconf",
                winget: "",
                otherwise: "name the folder of cblas.h with -D BLAS_INCLUDE_DIRS=FOLDER",
            },
        ],
    }
    /// Devices of another machine.
    Rpc {
        name: "rpc",
        about: "devices of another machine",
        switches: &["GGML_RPC"],
        // libibverbs would be picked up by accident where it is installed.
        defines: &[("GGML_RPC_RDMA", "OFF", "")],
        systems: ALL,
        needs: &[],
    }
    /// AMD GPUs.
    Hip {
        name: "hip",
        about: "AMD GPUs",
        switches: &["GGML_HIP", "GGML_HIPBLAS"],
        defines: &[],
        systems: &[LINUX, WINDOWS],
        needs: &[
            Need {
                id: "hip.hip",
                what: "HIP's CMake package",
                apt: "",
                dnf: "",
                brew: "",
                winget: "",
                otherwise: ROCM,
            },
            Need {
                id: "hip.blas",
                what: "hipBLAS and rocBLAS",
                apt: "",
                dnf: "",
                brew: "",
                winget: "",
                otherwise: ROCM,
            },
        ],
    }
    /// Intel GPUs.
    Sycl {
        name: "sycl",
        about: "Intel GPUs",
        switches: &["GGML_SYCL"],
        defines: &[("CMAKE_C_COMPILER", "icx", LINUX), ("CMAKE_CXX_COMPILER", "icpx", LINUX)],
        systems: &[LINUX, WINDOWS],
        needs: &[
            Need {
                id: "sycl.compiler",
                what: "Intel's compiler (icpx)",
                apt: "",
                dnf: "",
                brew: "",
                winget: "",
                otherwise: ONEAPI,
            },
            Need {
                id: "sycl.mkl",
                what: "oneMKL's CMake package",
                apt: "",
                dnf: "",
                brew: "",
                winget: "",
                otherwise: ONEAPI,
            },
        ],
    }
    /// GPUs with an OpenCL driver.
    Opencl {
        name: "opencl",
        about: "GPUs with an OpenCL driver",
        switches: &["GGML_OPENCL"],
        defines: &[],
        systems: ALL,
        needs: &[
            Need {
                id: "opencl.loader",
                what: "OpenCL's headers and loader",
                apt: "ocl-icd-opencl-dev opencl-headers",
                dnf: "ocl-icd-devel opencl-headers",
                brew: "opencl-headers",
                winget: "",
                otherwise: "install Khronos' OpenCL SDK",
            },
            Need {
                id: "opencl.python",
                what: "Python 3, which embeds the kernels",
                apt: "python3",
                dnf: "python3",
                brew: "python",
                winget: "Python.Python.3.13",
                otherwise: "install Python 3",
            },
        ],
    }
}
