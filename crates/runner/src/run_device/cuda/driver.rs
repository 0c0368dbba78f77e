//! The driver's library, looked for when the program runs.
//!
//! candle links `libcuda` when the program is built, and a program that names a library which is
//! absent does not start: a machine or container without a driver would see the loader's words, also
//! for `--device cpu`. So every function of the driver that cudarc calls is defined here, as a jump
//! to where [`load`] found it; the linker then has no need of the library. Before that, and of
//! functions that the installed driver is too old for, the answer is `CUDA_ERROR_STUB_LIBRARY`, as
//! of the toolkit's own stub. A function that is missing in the list below is linked as usual, and
//! the program then needs the library to start.

#![cfg_attr(
    all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")),
    expect(unsafe_code, reason = "functions are looked up by name")
)]

/// Finds the driver's library, once.
///
/// # Errors
/// What the loader says where there is none.
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(super) fn load() -> Result<(), String> {
    static LOADED: std::sync::OnceLock<Result<(), String>> = std::sync::OnceLock::new();
    LOADED.get_or_init(linux::load).clone()
}

/// Elsewhere the library is linked as usual.
#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
pub(super) fn load() -> Result<(), String> {
    Ok(())
}

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod linux {
    use std::ffi::{CStr, c_void};
    use std::sync::atomic::{AtomicPtr, Ordering};

    /// The driver's library, by the name that programs are linked to.
    const LIBRARY: &CStr = c"libcuda.so.1";

    /// `CUDA_ERROR_STUB_LIBRARY`.
    const STUB_LIBRARY: u32 = 34;

    /// What stands in for a function that was not found: of every function the result is an error
    /// code, and a callee may ignore its arguments.
    extern "C" fn absent() -> u32 {
        STUB_LIBRARY
    }

    /// A function of the driver.
    struct Function {
        name: &'static CStr,
        /// Where it is.
        place: &'static AtomicPtr<c_void>,
        /// The jump there; named here so that the linker keeps it.
        jump: unsafe extern "C" fn() -> u32,
    }

    pub(super) fn load() -> Result<(), String> {
        // SAFETY: the driver's library is made to be loaded; it is never closed.
        let library = unsafe { libc::dlopen(LIBRARY.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        if library.is_null() {
            return Err(last_error());
        }
        for function in FUNCTIONS {
            std::hint::black_box(function.jump);
            // SAFETY: the library is open, the name ends with a zero.
            let found = unsafe { libc::dlsym(library, function.name.as_ptr()) };
            if !found.is_null() {
                function.place.store(found, Ordering::Release);
            }
        }
        Ok(())
    }

    /// The loader's words.
    fn last_error() -> String {
        // SAFETY: `dlerror` gives null or a text that is there until the next call.
        let text = unsafe {
            let text = libc::dlerror();
            if text.is_null() { None } else { Some(CStr::from_ptr(text)) }
        };
        let text = text.map(CStr::to_string_lossy).unwrap_or_default();
        if text.is_empty() { "libcuda.so.1 cannot be loaded".to_owned() } else { text.into_owned() }
    }

    macro_rules! driver_functions {
        ($($name:ident)*) => {
            /// Where the functions are.
            #[allow(non_upper_case_globals, reason = "names of the driver")]
            mod places {
                use super::*;
                $(pub(super) static $name: AtomicPtr<c_void> =
                    AtomicPtr::new(absent as *mut c_void);)*
            }

            $(
                #[unsafe(naked)]
                #[unsafe(no_mangle)]
                #[allow(non_snake_case, reason = "names of the driver")]
                unsafe extern "C" fn $name() -> u32 {
                    #[cfg(target_arch = "x86_64")]
                    std::arch::naked_asm!("jmp qword ptr [rip + {place}]", place = sym places::$name);
                    #[cfg(target_arch = "aarch64")]
                    std::arch::naked_asm!(
                        "adrp x16, {place}",
                        "ldr x16, [x16, :lo12:{place}]",
                        "br x16",
                        place = sym places::$name,
                    );
                }
            )*

            static FUNCTIONS: &[Function] = &[$(Function {
                name: match CStr::from_bytes_with_nul(concat!(stringify!($name), "\0").as_bytes()) {
                    Ok(name) => name,
                    Err(_) => c"",
                },
                place: &places::$name,
                jump: $name,
            }),*];
        };
    }

    // What cudarc 0.19 names in `driver/result.rs` and `driver/safe`, for every release of CUDA.
    driver_functions! {
        cuCtxCreate_v2 cuCtxCreate_v3 cuCtxCreate_v4 cuCtxDestroy_v2 cuCtxGetCacheConfig
        cuCtxGetCurrent cuCtxGetDevice cuCtxGetLimit cuCtxGetStreamPriorityRange cuCtxSetCacheConfig
        cuCtxSetCurrent cuCtxSetFlags cuCtxSetLimit cuCtxSynchronize cuDestroyExternalMemory
        cuDeviceGet cuDeviceGetAttribute cuDeviceGetCount cuDeviceGetDefaultMemPool
        cuDeviceGetMemPool cuDeviceGetName cuDeviceGetUuid cuDeviceGetUuid_v2
        cuDevicePrimaryCtxRelease_v2 cuDevicePrimaryCtxRetain cuDeviceSetMemPool cuDeviceTotalMem_v2
        cuEventCreate cuEventDestroy_v2 cuEventElapsedTime cuEventElapsedTime_v2 cuEventQuery
        cuEventRecord cuEventSynchronize cuExternalMemoryGetMappedBuffer cuFuncGetAttribute
        cuFuncSetAttribute cuFuncSetCacheConfig cuGetErrorName cuGetErrorString cuGetProcAddress_v2
        cuGraphClone cuGraphDestroy cuGraphExecDestroy cuGraphInstantiateWithFlags
        cuGraphInstantiate_v2 cuGraphLaunch cuGraphUpload cuImportExternalMemory cuInit
        cuLaunchCooperativeKernel cuLaunchHostFunc cuLaunchKernel cuMemAdvise cuMemAdvise_v2
        cuMemAllocAsync cuMemAllocFromPoolAsync cuMemAllocManaged cuMemAlloc_v2 cuMemFreeAsync
        cuMemFreeHost cuMemFree_v2 cuMemGetInfo_v2 cuMemHostAlloc cuMemPoolCreate cuMemPoolDestroy
        cuMemPoolGetAttribute cuMemPoolSetAttribute cuMemPoolTrimTo cuMemPrefetchAsync
        cuMemPrefetchAsync_v2 cuMemcpyDtoDAsync_v2 cuMemcpyDtoD_v2 cuMemcpyDtoHAsync_v2
        cuMemcpyDtoH_v2 cuMemcpyHtoDAsync_v2 cuMemcpyHtoD_v2 cuMemcpyPeerAsync cuMemsetD8Async
        cuMemsetD8_v2 cuModuleGetFunction cuModuleGetGlobal_v2 cuModuleLoad cuModuleLoadData
        cuModuleUnload cuOccupancyAvailableDynamicSMemPerBlock
        cuOccupancyMaxActiveBlocksPerMultiprocessor
        cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags cuOccupancyMaxActiveClusters
        cuOccupancyMaxPotentialBlockSize cuOccupancyMaxPotentialBlockSizeWithFlags
        cuOccupancyMaxPotentialClusterSize cuProfilerStart cuProfilerStop cuStreamAttachMemAsync
        cuStreamBeginCapture_v2 cuStreamCreate cuStreamCreateWithPriority cuStreamDestroy_v2
        cuStreamEndCapture cuStreamGetCaptureInfo_v2 cuStreamGetCaptureInfo_v3 cuStreamIsCapturing
        cuStreamSynchronize cuStreamWaitEvent
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn functions_that_were_not_found_say_so() {
            for function in FUNCTIONS {
                assert!(function.name.to_bytes().starts_with(b"cu"));
            }
            let nowhere = FUNCTIONS.iter().find(|f| f.name == c"cuProfilerStop").unwrap();
            if load().is_err() {
                // SAFETY: without a driver this is `absent`.
                assert_eq!(unsafe { (nowhere.jump)() }, STUB_LIBRARY);
            }
        }
    }
}
